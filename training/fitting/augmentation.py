"""Augmentation of training photos: random scale, crop, flip and colour."""

from typing import Self

import cv2
import numpy as np
from pydantic import BaseModel, Field, model_validator

from tagmask.masks import VOID


class AugmentConfig(BaseModel, frozen=True, extra="forbid"):
    """Ranges from which each training photo's scale, crop and colour are drawn."""

    crop: int = Field(ge=32, le=2048, description="side of the square crop, pixels")
    smallest: float = Field(gt=0, le=10, description="least scale of a photo's longer side / crop")
    largest: float = Field(gt=0, le=10, description="greatest scale of a photo's longer side / crop")
    colour: float = Field(0.3, ge=0, le=1, description="strength of brightness, contrast and saturation changes, share")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.smallest > self.largest:
            raise ValueError(f"smallest ({self.smallest}) must not be above largest ({self.largest})")
        return self


def generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The random numbers of one photo in one epoch: the same in any process and after any restart."""
    return np.random.default_rng((seed, epoch, index))


def augment(
    photo: np.ndarray, mask: np.ndarray | None, config: AugmentConfig, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a square crop: ((crop, crop, 3) uint8 RGB, (crop, crop) uint8 labels).

    `photo` is (H, W, 3) uint8 RGB, `mask` (H, W) uint8 or None; of a `mask` (H, W, K), labels are (crop, crop, K).
    Beyond the photo the crop is mid-grey and void.
    """
    scale = random.uniform(config.smallest, config.largest) * config.crop / max(photo.shape[:2])
    height, width = (max(1, round(side * scale)) for side in photo.shape[:2])
    photo = cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    if mask is None:
        mask = np.full((height, width), VOID, dtype=np.uint8)
    else:
        mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    if random.random() < 0.5:
        photo, mask = photo[:, ::-1], mask[:, ::-1]
    side = config.crop
    crop = np.full((side, side, 3), 127, dtype=np.uint8)
    labels = np.full((side, side, *mask.shape[2:]), VOID, dtype=np.uint8)
    (top, into_top, rows), (left, into_left, columns) = (_place(n, side, random) for n in (height, width))
    target = np.s_[into_top : into_top + rows, into_left : into_left + columns]
    source = np.s_[top : top + rows, left : left + columns]
    crop[target], labels[target] = _recolour(photo[source], config.colour, random), mask[source]
    return crop, labels


def _place(length: int, side: int, random: np.random.Generator) -> tuple[int, int, int]:
    """(start in the photo, start in the crop, shared length) along one axis."""
    if length >= side:
        return int(random.integers(0, length - side + 1)), 0, side
    return 0, int(random.integers(0, side - length + 1)), length


def _recolour(photo: np.ndarray, strength: float, random: np.random.Generator) -> np.ndarray:
    brightness, contrast, saturation = 1 + strength * random.uniform(-1, 1, size=3)
    values = photo.astype(np.float32)
    grey = values.mean(axis=2, keepdims=True)
    values = grey + (values - grey) * saturation
    values = (values - grey.mean()) * contrast + grey.mean() * brightness
    return values.clip(0, 255).astype(np.uint8)
