"""The segmentation of one photo, from which every format is encoded."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageStat

from tagmask.expected_iou import mask_iou
from tagmask.inputs import LOW_CONFIDENCE

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
    `ious` has the expected IoU of each of `labels`, 0..1, `given` the labels of the request's tags. The confidence is
    low when the expected IoU of the mask is below `low_below`. `tags` has the probability that the photo shows each
    class, 0..1, by label; it is empty for a network without a tag head.
    """

    model: ModelInfo
    mask: Pixels
    labels: tuple[int, ...]
    confidence_of: Callable[[], Pixels]
    picture_of: Callable[[], Pixels]
    ious: Mapping[int, float]
    given: tuple[int, ...] = ()
    low_below: float = LOW_CONFIDENCE
    tags: Mapping[int, float] = field(default_factory=dict)

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

    @cached_property
    def expected_ious(self) -> dict[int, float]:
        """Of each label that appears or is given, by ascending label: 0 to 1, four digits; 0 for what is unpainted."""
        listed = sorted({*self.counts, *self.given})
        return {label: round(self.ious[label], 4) if label in self.counts else 0.0 for label in listed}

    @property
    def expected_iou(self) -> float:
        """Of the mask: the mean over classes that appear or are given, or background's where there are none; 0 to 1."""
        return mask_iou(self.expected_ious, 0)

    @cached_property
    def tag_probabilities(self) -> dict[int, float]:
        """The probability that the photo shows each class, by ascending label: 0 to 1, four digits."""
        return {label: round(probability, 4) for label, probability in sorted(self.tags.items())}

    @property
    def low_confidence(self) -> bool:
        """Whether the expected IoU of the mask is below the limit."""
        return self.expected_iou < self.low_below

    @property
    def unpainted(self) -> tuple[int, ...]:
        """Labels of tags that are given, but appear nowhere, ascending."""
        return tuple(label for label in self.expected_ious if label not in self.counts)
