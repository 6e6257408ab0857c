"""Stage 7, PixelNet: the segmentation network, trained on refined regions; the thing that is exported and served.

A DeepLab-LargeFOV style head (Chen et al., "DeepLab", TPAMI 2018) with the low-level skip of DeepLabv3+.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from tagmask.masks import VOID
from tagmask.photos import read_photo
from tagmask.progress import Advance, silent
from training.config import AugmentConfig, FitConfig
from training.datasets.photos import Photo, TaggedPhotos
from training.fitting.augmentation import augment, generator
from training.fitting.loop import Draw, FitResult, fit
from training.fitting.sampling import shares
from training.networks.backbones import Backbone, Weights
from training.networks.classifier import as_input


class PixelNet(nn.Module):
    """Backbone at stride 16, a wide-view context head, and a skip from stride 8."""

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

    def forward(self, photos: Tensor) -> Tensor:
        """Photos (B, 3, H, W) float 0..255 RGB -> scores (B, labels, H, W), logits."""
        scores, _ = self.localize(photos)
        return functional.interpolate(scores, photos.shape[-2:], mode="bilinear", align_corners=False)

    def localize(self, photos: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Photos (B, 3, H, W) -> scores (B, labels, H / 8, W / 8), logits, and the backbone's feature maps."""
        low, middle, high = features = self.backbone(photos)
        middle = functional.interpolate(middle, high.shape[-2:], mode="bilinear", align_corners=False)
        deep = functional.relu(self.reduce(torch.cat([middle, high], 1)))  # (B, width, H / 16, W / 16)
        whole = self.whole(deep.mean(dim=(2, 3), keepdim=True))  # (B, width, 1, 1)
        context = functional.relu(self.near(deep) + self.wide(deep) + whole)
        context = functional.dropout(context, 0.1, self.training)
        context = functional.interpolate(context, low.shape[-2:], mode="bilinear", align_corners=False)
        joined = torch.cat([context, functional.relu(self.skip(low))], 1)
        return self.labels(functional.relu(self.join(joined))), features


class _MaskedCrops(Dataset[tuple[Tensor, Tensor]]):
    """Crops (3, S, S) uint8 with labels (S, S) uint8."""

    def __init__(
        self, data: TaggedPhotos, mask: Callable[[Photo], np.ndarray], augment: AugmentConfig, long_side: int, seed: int
    ) -> None:
        self.data, self.mask, self.augment, self.long_side, self.seed = data, mask, augment, long_side, seed

    def __len__(self) -> int:
        return len(self.data.photos)

    def __getitem__(self, draw: Draw) -> tuple[Tensor, Tensor]:
        epoch, index = draw
        photo = self.data.photos[index]
        random = generator(self.seed, epoch, index)
        crop, labels = augment(read_photo(photo.path, self.long_side), self.mask(photo), self.augment, random)
        return torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1))), torch.from_numpy(labels.copy())


def _pixel_loss(network: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    photos, labels = batch
    scores = network(as_input(photos))
    lost = functional.cross_entropy(scores.float(), labels.long(), ignore_index=VOID, reduction="sum")
    return lost / (labels != VOID).sum().clamp(min=1)


def train_pixelnet(
    network: PixelNet,
    data: TaggedPhotos,
    mask: Callable[[Photo], np.ndarray],
    weights: Path,
    config: FitConfig,
    augment: AugmentConfig,
    *,
    long_side: int,
    device: torch.device,
    seed: int,
    finish: Callable[[], object],
    advance: Advance = silent,
) -> FitResult | None:
    """Train on `mask(photo)`, (H, W) uint8 labels 255 void, and write `weights`; see `training.fitting.loop.fit`."""
    crops = _MaskedCrops(data, mask, augment, long_side, seed)
    return fit(
        network, crops, _pixel_loss, config, weights,
        shares=shares(data.photos, config.tag_photos), device=device, seed=seed, finish=finish, advance=advance,
    )  # fmt: skip
