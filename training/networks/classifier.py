"""The tag classifier: a backbone and one linear map per class, trained on tags alone.

Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016, in its fully convolutional form.
"""

from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.networks.backbones import Backbone, as_input, read_state
from training.networks.weights import Weights


class TagClassifier(nn.Module):
    """A tag's score is the mean of its class map, so the map says where the tag is."""

    HEAD = "maps"
    """Name of the module with one output per class."""

    def __init__(self, classes: int, backbone: str, weights: Weights = None) -> None:
        super().__init__()
        self.backbone = Backbone(backbone, weights)
        self.maps = nn.Conv2d(self.backbone.channels[-1], classes, 1)

    @classmethod
    def load(cls, file: Path, backbone: str) -> Self:
        """The trained network whose state dict is in `file`, in evaluation mode on the CPU."""
        state = read_state(file)
        network = cls(len(state[f"{cls.HEAD}.weight"]), backbone, "random")
        network.load_state_dict(state)
        return network.to(memory_format=torch.channels_last).eval()

    def forward(self, photos: Tensor) -> Tensor:
        """Photos (B, 3, H, W) float 0..255 RGB -> tag scores (B, C), logits."""
        features = self.backbone(photos)[-1]
        return self.maps(functional.dropout(features, 0.2, self.training)).mean(dim=(2, 3))

    def localize(self, photos: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Photos (B, 3, H, W) -> class maps (B, C, H / s, W / s), logits, and the backbone's feature maps."""
        features = self.backbone(photos)
        return self.maps(features[-1]), features


def tag_loss(network: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Binary cross-entropy of a batch of photos (B, 3, S, S) uint8 and tags (B, C), 0 or 1."""
    photos, tags = batch
    return functional.binary_cross_entropy_with_logits(network(as_input(photos)), tags)
