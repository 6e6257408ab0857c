"""What the colours of a photo say about its labels: most things have colours that their surroundings lack."""

import cv2
import numpy as np
from numpy.typing import NDArray

from tagmask.segmentation import Pixels, Planes
from tagmask.smoothing import seen_labels, smooth_coarsely

_SIDE = 16  # of the cubes that colours are counted in, in Lab units of 8 bits
_STEPS = 256 // _SIDE
_CUBES = _STEPS**3
_SPREAD = 10.0  # how far colours that look alike differ, in the same units: the deviation of a normal density
_WEIGHT = 1.5  # exponent of the ratio of densities where colours tell labels well
_TELLING = 0.2  # colours tell labels well from this part of what is unknown of a pixel's label
_EVERYWHERE = 0.01  # added to the probabilities, so that a label of few pixels has all colours


def follow_colours(pixels: Pixels, probabilities: Planes) -> Planes:
    """`probabilities` (labels, h, w) float32 times (p(colour | label) / p(colour)) ** 1.5, summing to 1 over labels.

    They are smoothed before, as single pixels are noise. The densities are those of the colours of `pixels` (h, w, 3)
    uint8 RGB, which count for each label as far as they have it. GrabCut uses mixtures of normal densities (Rother,
    Kolmogorov and Blake, "GrabCut: interactive foreground extraction using iterated graph cuts", SIGGRAPH 2004). Where
    colours tell little about labels, as in grey photos, they count less.
    """
    seen = seen_labels(probabilities)
    if len(seen) < 2:
        return probabilities
    smoothed = smooth_coarsely(pixels, probabilities[seen])
    cubes = _cubes(pixels)
    shown = np.stack([np.bincount(cubes.ravel(), plane.ravel(), _CUBES) for plane in smoothed], axis=1).astype(float)
    used = np.flatnonzero(np.bincount(cubes.ravel(), minlength=_CUBES))
    factors = np.ones(shown.shape, dtype=np.float32)  # (cubes, labels)
    factors[used] = _factors(used, shown[used])
    followed = probabilities.copy()
    for label, plane, factor in zip(seen, smoothed, factors.T, strict=True):
        followed[label] = plane * factor[cubes]
    followed /= followed.sum(axis=0)
    return followed


def _cubes(pixels: Pixels) -> NDArray[np.uint16]:
    """The cube of colours that each of `pixels` (h, w, 3) uint8 RGB is in: (h, w), 0.._CUBES - 1."""
    steps = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2LAB) // _SIDE
    lightness, a, b = (steps[..., channel].astype(np.uint16) for channel in range(3))
    return (lightness * _STEPS + a) * _STEPS + b


def _factors(cubes: NDArray[np.intp], shown: NDArray[np.float64]) -> NDArray[np.float64]:
    """The factors of labels for the colours of `cubes` (n,), if `shown` (n, labels) pixels have both: as `shown`."""
    shown = shown + 1e-9
    weight = _WEIGHT * min(1.0, _told(shown) / _TELLING)
    shown += _EVERYWHERE * shown.sum(axis=1, keepdims=True)
    shown /= shown.sum()
    colours = _SIDE * np.stack(np.unravel_index(cubes, (_STEPS, _STEPS, _STEPS)), axis=1).astype(float)  # (n, 3)
    squares = (colours**2).sum(axis=1)
    near = np.exp((2 * colours @ colours.T - squares[:, None] - squares) / (2 * _SPREAD**2))  # (n, n)
    density = near @ shown  # (n, labels)
    ratio: NDArray[np.float64] = density / (density.sum(axis=1, keepdims=True) * shown.sum(axis=0))
    return ratio**weight


def _told(shown: NDArray[np.float64]) -> float:
    """The part of the entropy of labels, 0..1, that colours take away, `shown` (n, labels) pixels having both."""
    joint = shown / shown.sum()
    labels, colours = joint.sum(axis=0), joint.sum(axis=1, keepdims=True)
    told = (joint * np.log(joint / (labels * colours))).sum()
    return float(told / max(1e-9, -(labels * np.log(labels)).sum()))
