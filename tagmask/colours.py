"""What the colours of a photo say about its labels: most things have colours that their surroundings lack."""

import cv2
import numpy as np
from numpy.typing import NDArray

from tagmask.segmentation import Pixels, Planes
from tagmask.smoothing import seen_labels, smooth_coarsely

_BIN = 16  # side of the cubes that colours are counted in, in Lab units of 8 bits
_SPREAD = 10.0  # how far colours that look alike differ, in the same units: the deviation of a normal density
_WEIGHT = 1.5  # exponent of the ratio of densities where colours tell labels well
_TELLING = 0.2  # colours tell labels well from this part of what is unknown of a pixel's label
_EVERYWHERE = 0.01  # added to the probabilities, so that a label of few pixels has all colours


def follow_colours(pixels: Pixels, probabilities: Planes) -> Planes:
    """`probabilities` (labels, h, w) float32 times p(colour | label) / p(colour), summing to 1 over labels again.

    They are smoothed before, as single pixels are noise. The densities are those of the colours of `pixels` (h, w, 3)
    uint8 RGB, which count for each label as far as they have it. GrabCut uses mixtures of normal densities (Rother,
    Kolmogorov and Blake, "GrabCut: interactive foreground extraction using iterated graph cuts", SIGGRAPH 2004). Where
    colours tell little about labels, as in grey photos, they count less.
    """
    seen = seen_labels(probabilities)
    if len(seen) < 2:
        return probabilities
    smoothed = smooth_coarsely(pixels, probabilities[seen])
    colours, bins = _count_colours(pixels)
    pixels_of = [np.bincount(bins, plane.ravel(), len(colours)) for plane in smoothed]
    factors = _factors(colours, np.stack(pixels_of, axis=1))
    followed = probabilities.copy()
    for label, plane, factor in zip(seen, smoothed, factors.T, strict=True):
        followed[label] = plane * factor[bins].reshape(plane.shape)
    followed /= followed.sum(axis=0)
    return followed


def _factors(colours: NDArray[np.float64], shown: NDArray[np.float64]) -> NDArray[np.float32]:
    """The factors of labels for each of `colours` (bins, 3), if `shown` (bins, labels) pixels have both: as `shown`."""
    shown = shown + 1e-9
    weight = _WEIGHT * min(1.0, _told(shown) / _TELLING)
    shown += _EVERYWHERE * shown.sum(axis=1, keepdims=True)
    shown /= shown.sum()
    squares = (colours**2).sum(axis=1)
    near = np.exp((2 * colours @ colours.T - squares[:, None] - squares) / (2 * _SPREAD**2))  # (bins, bins)
    density = near @ shown  # (bins, labels)
    ratio = density / (density.sum(axis=1, keepdims=True) * shown.sum(axis=0))
    return (ratio**weight).astype(np.float32)


def _count_colours(pixels: Pixels) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """The colours in `pixels` (h, w, 3) uint8 RGB: (bins, 3) in Lab units of 8 bits, and the bin of each: (h * w,)."""
    side = 256 // _BIN
    level = (cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2LAB) // _BIN).reshape(-1, 3).astype(np.int32)
    cube = (level[:, 0] * side + level[:, 1]) * side + level[:, 2]
    used = np.flatnonzero(np.bincount(cube, minlength=side**3))
    index = np.zeros(side**3, dtype=np.int32)
    index[used] = np.arange(len(used))
    return _BIN * np.stack(np.unravel_index(used, (side, side, side)), axis=1).astype(np.float64), index[cube]


def _told(shown: NDArray[np.float64]) -> float:
    """The part of the entropy of labels, 0..1, that colours take away, if `shown` (bins, labels) pixels have both."""
    joint = shown / shown.sum()
    labels, colours = joint.sum(axis=0), joint.sum(axis=1, keepdims=True)
    told = (joint * np.log(joint / (labels * colours))).sum()
    return float(told / max(1e-9, -(labels * np.log(labels)).sum()))
