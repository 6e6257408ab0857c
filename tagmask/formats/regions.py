"""The pixels of one class, which most formats write one after another."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from tagmask.segmentation import Pixels, Segmentation


@dataclass(frozen=True)
class Region:
    """All pixels of one class.

    `box` is (x, y, width, height) in pixels, as tight as can be; `pixels` is the class inside it, (height, width)
    uint8, 0 or 1; `area` counts the ones.
    """

    label: int
    name: str
    area: int
    box: tuple[int, int, int, int]
    pixels: Pixels

    def mean(self, values: Pixels) -> float:
        """Mean over the class of `values`, (H, W) uint8 as large as the mask, as a share of 255 with four digits."""
        x, y, width, height = self.box
        inside = values[y : y + height, x : x + width] * self.pixels  # cv2.mean takes five times as long with a mask
        return round(cv2.sumElems(inside)[0] / (255 * self.area), 4)


def regions(segmentation: Segmentation, labels: Iterable[int]) -> Iterator[Region]:
    """One Region for each of `labels`, which must appear in the mask. One at a time, so that memory stays bounded."""
    for label in labels:
        everywhere = plane(segmentation.mask, label)
        x, y, width, height = cv2.boundingRect(everywhere)
        yield Region(
            label=label,
            name=segmentation.model.classes[label],
            area=segmentation.counts[label],
            box=(x, y, width, height),
            pixels=np.ascontiguousarray(everywhere[y : y + height, x : x + width]),
        )


def plane(mask: Pixels, label: int) -> Pixels:
    """Where `mask` is `label`: uint8, 0 or 1, in the shape and memory order of `mask`."""
    return (mask == label).view(np.uint8)


def run_lengths(pixels: Pixels) -> NDArray[np.int64]:
    """Lengths of the runs of equal values in `pixels`, uint8, 0 or 1, row after row.

    Zeros and ones take turns and zeros come first, so that the first length is 0 where the first pixel is 1.
    """
    flat = pixels.reshape(-1)
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    return np.diff(np.concatenate(([0] * (1 + flat[0]), changes, [flat.size])))
