"""How good a mask is by the network's own probabilities: the intersection over union to expect, without a true mask.

The IoU of a class is estimated by its expected intersection over its expected union (Nowozin, "Optimal decisions from
probabilistic models: the intersection-over-union case", CVPR 2014). It ranks masks better than the mean probability of
their pixels (`python -m benchmarks.confidence`).
"""

from collections.abc import Mapping
from statistics import fmean
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Label = TypeVar("Label", int, str)


class IouSums:
    """The sums over a photo, which may come in parts, from which the expected IoU of each label follows."""

    def __init__(self, labels: int) -> None:
        self._painted = np.zeros(labels, dtype=np.int64)
        self._inside = np.zeros(labels)
        self._everywhere = np.zeros(labels)

    def add(self, probabilities: NDArray[np.float32], winners: NDArray[np.uint8]) -> None:
        """Add a part: `probabilities` (labels, h, w) float32 summing to 1 over labels, `winners` (h, w) uint8 indices
        of labels.
        """
        for index, plane in enumerate(probabilities):
            own = winners == index
            if painted := np.count_nonzero(own):
                self._painted[index] += painted
                self._inside[index] += np.vdot(plane, own)
            self._everywhere[index] += plane.sum(dtype=np.float64)

    def ious(self) -> NDArray[np.float64]:
        """The expected IoU of each label: (labels,), 0..1, 0 for a label that is painted nowhere.

        The sum of a label's probabilities where it is painted, over the number of these pixels and the sum of its
        probabilities elsewhere.
        """
        union = self._painted + self._everywhere - self._inside
        return np.divide(self._inside, union, out=np.zeros_like(union), where=self._painted > 0).clip(0, 1)


def expected_ious(probabilities: NDArray[np.float32], winners: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The expected IoU of each label where a mask is `winners`: those of `IouSums` for a photo in one part."""
    sums = IouSums(len(probabilities))
    sums.add(probabilities, winners)
    return sums.ious()


def mask_iou(ious: Mapping[Label, float], background: Label) -> float:
    """The expected IoU of a mask: the mean of `ious` by class without `background`, whose own counts if it is alone.

    0..1 with four digits; NaN if there are none.
    """
    classes = [iou for label, iou in ious.items() if label != background]
    return round(fmean(classes), 4) if classes else ious.get(background, float("nan"))
