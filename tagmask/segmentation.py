"""The segmentation of one photo, from which every format is encoded."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageStat

Pixels = NDArray[np.uint8]
Planes = NDArray[np.float32]
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class ModelInfo:
    """The model in a segmentation: `version`, `classes` by label (background first), `palette` (R, G, B)."""

    version: str
    classes: tuple[str, ...]
    palette: tuple[Colour, ...]


@dataclass(frozen=True)
class Segmentation:
    """One photo's masks at its displayed size (H, W).

    `mask` (H, W) uint8, value = label. `labels` are those that could appear, ascending, background 0 first.
    `confidence_of` and `picture_of` compute what only some formats need: the probability of each pixel's own label as
    (H, W) uint8, 255 = certain; and the photo to look at, (h, w, 3) uint8 RGB, scaled down where it is very large.
    """

    model: ModelInfo
    mask: Pixels
    labels: tuple[int, ...]
    confidence_of: Callable[[], Pixels]
    picture_of: Callable[[], Pixels]

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        height, width = self.mask.shape
        return height, width

    @cached_property
    def confidence(self) -> Pixels:
        """Probability of each pixel's own label: (H, W) uint8, 255 = certain."""
        return self.confidence_of()

    @cached_property
    def score(self) -> float:
        """Mean of the confidence, 0 to 1, with four digits."""
        return round(ImageStat.Stat(Image.fromarray(self.confidence)).mean[0] / 255, 4)

    @cached_property
    def counts(self) -> dict[int, int]:
        """Pixels of each label that appears, background included, by ascending label."""
        counts = Image.fromarray(self.mask).histogram()  # NumPy's bincount would cast 50 MP to int64
        return {label: pixels for label, pixels in enumerate(counts) if pixels}

    @property
    def present(self) -> tuple[int, ...]:
        """Labels that appear, without background, ascending."""
        return tuple(label for label in self.counts if label)
