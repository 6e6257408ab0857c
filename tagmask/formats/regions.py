"""The pixels of one class in a mask, which most formats write one after another."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from tagmask.segmentation import Pixels


@dataclass(frozen=True)
class Region:
    """All pixels of one class.

    `plane` (H, W) uint8, 1 for the class, else 0; `box` is the tightest box around it, (x, y, width, height) in pixels.
    """

    label: int
    name: str
    plane: Pixels
    box: tuple[int, int, int, int]

    @cached_property
    def area(self) -> int:
        """Pixels of the class."""
        return cv2.countNonZero(self.plane)

    @cached_property
    def pixels(self) -> Pixels:
        """The plane inside the box, (height, width) uint8."""
        x, y, width, height = self.box
        return np.ascontiguousarray(self.plane[y : y + height, x : x + width])

    def mean(self, values: Pixels) -> float:
        """Mean over the class of `values`, (H, W) uint8 as large as the mask, as a share of 255 with four digits."""
        x, y, width, height = self.box
        inside = values[y : y + height, x : x + width] * self.pixels  # cv2.mean takes five times as long with a mask
        return round(cv2.sumElems(inside)[0] / (255 * self.area), 4)


def regions(mask: Pixels, classes: Sequence[str], labels: Iterable[int]) -> Iterator[Region]:
    """One Region for each of `labels`, which must appear in `mask`. One at a time, so that memory stays bounded."""
    for label in labels:
        everywhere = plane(mask, label)
        x, y, width, height = cv2.boundingRect(everywhere)
        yield Region(label, classes[label], everywhere, (x, y, width, height))


def plane(mask: Pixels, label: int) -> Pixels:
    """Where `mask` is `label`: uint8, 0 or 1, in the shape and memory order of `mask`."""
    return (mask == label).view(np.uint8)


def run_lengths(pixels: Pixels) -> NDArray[np.int64]:
    """Lengths of the runs of equal values in `pixels`, uint8, 0 or 1, row by row.

    Zeros and ones alternate and zeros come first, so that the first length is 0 where the first pixel is 1.
    """
    flat = pixels.reshape(-1)
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    return np.diff(np.concatenate(([0] * (1 + flat[0]), changes, [flat.size])))
