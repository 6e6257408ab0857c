"""Training data as torch data sets. Items are indexed by (epoch, index), so that a resumed training repeats them."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from tagmask.photos import read_photo
from training.datasets.photos import Photo, TaggedPhotos
from training.fitting.augmentation import AugmentConfig, augment, generator
from training.fitting.loop import Draw


class _Crops(Dataset[tuple[Tensor, Tensor]]):
    """Augmented crops of photos."""

    def __init__(self, data: TaggedPhotos, augment: AugmentConfig, long_side: int, seed: int) -> None:
        self.data, self.augment, self.long_side, self.seed = data, augment, long_side, seed

    def __len__(self) -> int:
        return len(self.data.photos)

    def crop(self, draw: Draw, mask: np.ndarray | None) -> tuple[Tensor, Tensor]:
        """A crop (3, S, S) uint8 of photo and mask, (S, S) uint8 labels, or (S, S, K)."""
        photo = self.data.photos[draw[1]]
        crop, labels = augment(read_photo(photo.path, self.long_side), mask, self.augment, generator(self.seed, *draw))
        return torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1))), torch.from_numpy(labels.copy())


class TaggedCrops(_Crops):
    """Crops (3, S, S) uint8 with tags (C,) float, 0 or 1."""

    def __getitem__(self, draw: Draw) -> tuple[Tensor, Tensor]:
        crop, _ = self.crop(draw, None)
        return crop, tag_vector(self.data.photos[draw[1]], self.data.classes)


class MaskedCrops(_Crops):
    """Crops (3, S, S) uint8 with labels (S, S) uint8 of `mask(photo)`, 255 void; (S, S, K) where that is (H, W, K)."""

    def __init__(
        self, data: TaggedPhotos, mask: Callable[[Photo], np.ndarray], augment: AugmentConfig, long_side: int, seed: int
    ) -> None:
        super().__init__(data, augment, long_side, seed)
        self.mask = mask

    def __getitem__(self, draw: Draw) -> tuple[Tensor, Tensor]:
        return self.crop(draw, self.mask(self.data.photos[draw[1]]))


class PhotoSeeds(Dataset[tuple[Tensor, Tensor]]):
    """The seeds of each photo: features (n, F) float and labels (n,) int64, as `seeds(index)` gives them."""

    def __init__(self, photos: int, seeds: Callable[[int], tuple[np.ndarray, np.ndarray]]) -> None:
        self.photos, self.seeds = photos, seeds

    def __len__(self) -> int:
        return self.photos

    def __getitem__(self, draw: Draw) -> tuple[Tensor, Tensor]:
        features, labels = self.seeds(draw[1])
        return torch.from_numpy(features.astype(np.float32)), torch.from_numpy(labels.astype(np.int64))


class TaggedRegions(Dataset[tuple[Tensor, ...]]):
    """The superpixels of each photo: their features (R, F) float, by `features(photo)`, and its tags (C,) float.

    With `vouched(photo)`, also their vouched labels (R,) int64, 255 for none.
    """

    def __init__(
        self,
        data: TaggedPhotos,
        features: Callable[[Photo], np.ndarray],
        vouched: Callable[[Photo], np.ndarray] | None = None,
    ) -> None:
        self.data, self.features, self.vouched = data, features, vouched

    def __len__(self) -> int:
        return len(self.data.photos)

    def __getitem__(self, draw: Draw) -> tuple[Tensor, ...]:
        photo = self.data.photos[draw[1]]
        item = torch.from_numpy(self.features(photo).astype(np.float32)), tag_vector(photo, self.data.classes)
        return (*item, torch.from_numpy(self.vouched(photo).astype(np.int64))) if self.vouched else item


def tag_vector(photo: Photo, classes: tuple[str, ...]) -> Tensor:
    """A photo's tags: (C,) float, 0 or 1."""
    tags = torch.zeros(len(classes))
    tags[[label - 1 for label in photo.labels(classes)[1:]]] = 1
    return tags


def join_regions(photos: list[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """The superpixels of several photos as one batch: (N, F) float, regions per photo (B,) int64, tags (B, C) float.

    Vouched labels of the photos are (N,) int64.
    """
    features, tags, *vouched = zip(*photos, strict=True)
    lengths = torch.tensor([len(each) for each in features])
    return torch.cat(features), lengths, torch.stack(tags), *map(torch.cat, vouched)


def join_seeds(photos: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """The seeds of several photos as one batch: (N, F) float and (N,) int64."""
    features, labels = zip(*photos, strict=True)
    return torch.cat(features), torch.cat(labels)
