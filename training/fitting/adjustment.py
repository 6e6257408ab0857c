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

LEAST_SHARE = 1e-5
"""Labels that are known to be rarer are evened out as if they were as frequent."""


def logit_offsets(counts: NDArray[np.float64], strength: float) -> Tensor:
    """`strength` times the log share of each label, by the pixels or superpixels that have it, `counts` (labels,):
    (labels,) float.
    """
    return torch.from_numpy(strength * np.log((1 + counts) / (1 + counts).sum())).float()


def source_offsets(
    counts: NDArray[np.float64],
    shares: NDArray[np.float64],
    photos: NDArray[np.int64],
    *,
    strength: float,
    known_strength: float,
) -> Tensor:
    """Offsets of labels by K sources, of which the first was mined: (K, labels) float.

    `counts` (K, labels) are the pixels of each source. The true `shares` of labels (labels,), 0..1, are each known by
    so many `photos` (labels,). Where none is known, what is learned from the first source is evened out by `strength`,
    as by `logit_offsets`. The more photos tell a share, the more it is evened out by `known_strength` from there:
    labels that were mined too large are evened out by that already. Whatever its own shares are, each source then
    teaches the same.
    """
    logs = np.log((1 + counts) / (1 + counts).sum(axis=1, keepdims=True))  # (K, labels)
    known = photos / (photos + 1)
    true = np.log(np.maximum(shares, LEAST_SHARE))
    left = (1 - known) * (1 - strength) * logs[0] + known * (1 - known_strength) * true
    return torch.from_numpy(logs - left).float()


def label_counts(masks: Iterable[NDArray[np.uint8]], labels: int) -> NDArray[np.float64]:
    """The elements of each label in `masks`, of any shapes, 255 void: (labels,)."""
    counts = np.zeros(labels)
    for mask in masks:
        counts += np.bincount(mask[mask != VOID], minlength=labels)
    return counts
