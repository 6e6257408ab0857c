"""PixelNet: the segmentation network that is exported and served.

A DeepLab-LargeFOV style head (Chen et al., "DeepLab", TPAMI 2018) with the low-level skip of DeepLabv3+.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from tagmask.masks import VOID
from training.networks.backbones import Backbone, as_input, read_state
from training.networks.weights import Weights


class PixelNet(nn.Module):
    """A backbone, a wide-view context head on its deeper maps, and a skip from the shallowest: strides 16 and 8."""

    HEAD = "labels"
    """Name of the module with one output per label."""

    def __init__(self, labels: int, backbone: str, width: int, weights: Weights = None) -> None:
        """`labels` counts background and the classes."""
        super().__init__()
        self.backbone = Backbone(backbone, weights)
        low, middle, high = self.backbone.channels
        self.reduce = nn.Conv2d(middle + high, width, 1)
        self.near = nn.Conv2d(width, width, 3, padding=2, dilation=2)
        self.wide = nn.Conv2d(width, width, 3, padding=6, dilation=6)
        self.whole = nn.Conv2d(width, width, 1)
        self.skip = nn.Conv2d(low, width // 2, 1)
        self.join = nn.Conv2d(width + width // 2, width, 3, padding=1)
        self.labels = nn.Conv2d(width, labels, 1)

    @classmethod
    def load(cls, file: Path, backbone: str) -> Self:
        """The trained network whose state dict is in `file`, in evaluation mode on the CPU."""
        state = read_state(file)
        labels, width = state[f"{cls.HEAD}.weight"].shape[:2]
        network = cls(labels, backbone, width, "random")
        network.load_state_dict(state)
        return network.to(memory_format=torch.channels_last).eval()

    def forward(self, photos: Tensor) -> Tensor:
        """Photos (B, 3, H, W) float 0..255 RGB -> scores (B, labels, H, W), logits."""
        scores, _ = self.localize(photos)
        return functional.interpolate(scores, photos.shape[-2:], mode="bilinear", align_corners=False)

    def localize(self, photos: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Photos (B, 3, H, W) -> scores (B, labels, h, w), logits, and the backbone's feature maps.

        (h, w) is the size of the shallowest map: (H / 8, W / 8) by default.
        """
        low, middle, high = features = self.backbone(photos)
        middle = functional.interpolate(middle, high.shape[-2:], mode="bilinear", align_corners=False)
        deep = functional.relu(self.reduce(torch.cat([middle, high], 1)))  # (B, width, H / 16, W / 16)
        whole = self.whole(deep.mean(dim=(2, 3), keepdim=True))  # (B, width, 1, 1)
        context = functional.relu(self.near(deep) + self.wide(deep) + whole)
        context = functional.dropout(context, 0.1, self.training)
        context = functional.interpolate(context, low.shape[-2:], mode="bilinear", align_corners=False)
        joined = torch.cat([context, functional.relu(self.skip(low))], 1)
        return self.labels(functional.relu(self.join(joined))), features


def pixel_loss(
    network: nn.Module, batch: tuple[Tensor, Tensor], *, offsets: Tensor, weights: Sequence[float] = (1.0,)
) -> Tensor:
    """Mean cross-entropy of the pixels of a batch of photos (B, 3, S, S) uint8 and labels (B, S, S), 255 ignored.

    Labels may be (B, S, S, K), by K sources, whose pixels count by `weights`. `offsets` (labels,) or (K, labels), of
    `training.fitting.adjustment`, are added to the logits in training alone.
    """
    photos, labels = batch
    scores = network(as_input(photos)).float()  # (B, labels, S, S)
    total, pixels = scores.new_zeros(()), scores.new_zeros(())
    sources = labels.reshape(*labels.shape[:3], -1).long().unbind(-1)  # K of (B, S, S)
    for weight, offset, known in zip(weights, torch.atleast_2d(offsets.to(labels.device)), sources, strict=True):
        adjusted = scores + offset[:, None, None]
        total = total + weight * functional.cross_entropy(adjusted, known, ignore_index=VOID, reduction="sum")
        pixels = pixels + weight * (known != VOID).sum()
    return total / pixels.clamp(min=1)
