"""Stage 1a, the tag classifier: learns from tags alone which classes a photo shows."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from tagmask.photos import read_photo
from tagmask.progress import Advance, silent
from training.config import AugmentConfig, ClassifierConfig
from training.datasets.photos import TaggedPhotos
from training.fitting.augmentation import augment, generator
from training.fitting.loop import Draw, FitResult, fit
from training.fitting.sampling import shares
from training.networks.backbones import Backbone, Weights


class TagClassifier(nn.Module):
    """Backbone and one linear map a class; a tag's score is its map's mean, so the map says where the tag is.

    Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016, in its fully convolutional form.
    """

    def __init__(self, classes: int, backbone: str, weights: Weights = None) -> None:
        super().__init__()
        self.backbone = Backbone(backbone, weights)
        self.maps = nn.Conv2d(self.backbone.channels[-1], classes, 1)

    def forward(self, photos: Tensor) -> Tensor:
        """Photos (B, 3, H, W) float 0..255 RGB -> tag scores (B, C), logits."""
        features = self.backbone(photos)[-1]
        return self.maps(functional.dropout(features, 0.2, self.training)).mean(dim=(2, 3))

    def localize(self, photos: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Photos (B, 3, H, W) -> class maps (B, C, H / s, W / s), logits, and the backbone's feature maps."""
        features = self.backbone(photos)
        return self.maps(features[-1]), features


class _TaggedCrops(Dataset[tuple[Tensor, Tensor]]):
    """Crops (3, S, S) uint8 with tags (C,) float 0 or 1."""

    def __init__(self, data: TaggedPhotos, augment: AugmentConfig, long_side: int, seed: int) -> None:
        self.data, self.augment, self.long_side, self.seed = data, augment, long_side, seed

    def __len__(self) -> int:
        return len(self.data.photos)

    def __getitem__(self, draw: Draw) -> tuple[Tensor, Tensor]:
        epoch, index = draw
        photo = self.data.photos[index]
        pixels = read_photo(photo.path, self.long_side)
        crop, _ = augment(pixels, None, self.augment, generator(self.seed, epoch, index))
        tags = torch.zeros(len(self.data.classes))
        tags[[label - 1 for label in self.data.labels(photo)[1:]]] = 1
        return torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1))), tags


def _tag_loss(network: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    photos, tags = batch
    return functional.binary_cross_entropy_with_logits(network(as_input(photos)), tags)


def as_input(photos: Tensor) -> Tensor:
    """uint8 photos (B, 3, H, W) -> float, channels last: what networks take."""
    return photos.float().contiguous(memory_format=torch.channels_last)


def train_classifier(
    network: TagClassifier,
    data: TaggedPhotos,
    weights: Path,
    config: ClassifierConfig,
    *,
    long_side: int,
    device: torch.device,
    seed: int,
    advance: Advance = silent,
) -> FitResult | None:
    """Train on tags and write `weights`; see `training.fitting.loop.fit` for resuming."""
    crops = _TaggedCrops(data, config.augment, long_side, seed)
    return fit(
        network, crops, _tag_loss, config.fit, weights,
        shares=shares(data.photos, config.fit.tag_photos), device=device, seed=seed, advance=advance,
    )  # fmt: skip
