"""The network that is served: PixelNet, and a tag head on its deepest features."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.networks.pixelnet import PixelNet


class TagHead(nn.Module):
    """A linear map from pooled features to one logit per class."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, features: Tensor) -> Tensor:
        """The deepest feature map (B, F, h, w) -> probabilities of the tags (B, C) float32."""
        return self.linear(pool(features)).sigmoid()


class ServedNetwork(nn.Module):
    """Probabilities of labels and of tags by one pass of PixelNet's backbone."""

    def __init__(self, pixelnet: PixelNet, tags: TagHead) -> None:
        super().__init__()
        self.pixelnet = pixelnet
        self.tags = tags

    def forward(self, photos: Tensor) -> tuple[Tensor, Tensor]:
        """Photos (B, 3, H, W) float 0..255 RGB -> probabilities (B, labels, H, W) and tags (B, C), both float32."""
        scores, features = self.pixelnet.localize(photos)
        scores = functional.interpolate(scores, photos.shape[-2:], mode="bilinear", align_corners=False)
        return scores.float().softmax(dim=1), self.tags(features[-1])


def pool(features: Tensor) -> Tensor:
    """The mean and the greatest value of feature maps (B, F, h, w) over the photo: (B, 2 F) float32.

    The mean tells what fills the photo, the greatest value what is small.
    """
    return torch.cat([features.mean(dim=(2, 3), dtype=torch.float32), features.amax(dim=(2, 3)).float()], dim=1)
