"""Logit adjustment: labels that are rare in training are not given up to frequent ones.

While a network is trained, the log share of each label is added to its logit, as far as a setting says. What the
network learns is then relative to that share (Menon et al., "Long-tail learning via logit adjustment", ICLR 2021).
"""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tagmask.masks import VOID


def logit_offsets(masks: Iterable[NDArray[np.uint8]], labels: int, strength: float) -> Tensor:
    """`strength` times the log share of each label in `masks`, of any shapes, 255 void: (labels,) float."""
    counts = 1 + label_counts(masks, labels)
    return torch.from_numpy(strength * np.log(counts / counts.sum())).float()


def label_counts(masks: Iterable[NDArray[np.uint8]], labels: int) -> NDArray[np.float64]:
    """The elements of each label in `masks`, of any shapes, 255 void: (labels,)."""
    counts = np.zeros(labels)
    for mask in masks:
        counts += np.bincount(mask[mask != VOID], minlength=labels)
    return counts
