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

LOW = 0.6
"""Limit of low confidence: most masks of the pretrained model below it have a true IoU below 0.5."""

Label = TypeVar("Label", int, str)


def expected_ious(probabilities: NDArray[np.float32], winners: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The expected IoU of each label where a mask is `winners`: (labels,), 0..1, 0 for a label that it does not have.

    `probabilities` (labels, h, w) float32 summing to 1 over labels, `winners` (h, w) uint8 indices of labels. The sum
    of a label's probabilities where it is painted, over the number of these pixels and the sum of its probabilities
    elsewhere.
    """
    painted = np.bincount(winners.ravel(), minlength=len(probabilities))
    inside = np.zeros(len(probabilities))
    for index in np.flatnonzero(painted):
        inside[index] = np.vdot(probabilities[index], winners == index)
    union = painted + probabilities.sum(axis=(1, 2), dtype=np.float64) - inside
    return np.divide(inside, union, out=np.zeros_like(inside), where=painted > 0).clip(0, 1)


def mask_iou(ious: Mapping[Label, float], background: Label) -> float:
    """The expected IoU of a mask: the mean of `ious` by class without `background`, whose own counts if it is alone.

    0..1 with four digits; NaN if there are none.
    """
    classes = [iou for label, iou in ious.items() if label != background]
    return round(fmean(classes), 4) if classes else ious.get(background, float("nan"))
