"""Probabilities spread to the edges of the photo, at a tenth of the network's time."""

import cv2
import numpy as np
from numpy.typing import NDArray

from tagmask.segmentation import Pixels, Planes
from tagmask.upsampling import find_strongest

_STRENGTH = 200.0  # how far probabilities spread
_COLOURS = 6.0  # the difference of colours, of 255, that stops them
_SEEN = 0.1  # a label that is less probable everywhere is left as it is
_KEPT = 0.5  # a label that keeps less than this part of its pixels is left where it was


def seen_labels(probabilities: Planes) -> NDArray[np.intp]:
    """Background and the labels of `probabilities` (labels, h, w) that a mask may show: indices, ascending."""
    seen = probabilities.max(axis=(1, 2)) >= _SEEN
    seen[0] = True
    return np.flatnonzero(seen)


def smooth(pixels: Pixels, probabilities: Planes) -> Planes:
    """`probabilities` (labels, h, w) float32, smoothed within areas of one colour of `pixels` (h, w, 3) uint8 RGB.

    By the fast global smoother (Min, Choi, Lu, Ham, Sohn and Do, "Fast global image smoothing based on weighted least
    squares", IEEE TIP 2014). By itself it would wipe out what is thin or small and stands out little; where a label,
    background (the first) excepted, would lose more than half of its pixels, these keep the probabilities that they
    had.
    """
    seen = seen_labels(probabilities)
    if len(seen) < 2:
        return probabilities
    smoothed = probabilities.copy()
    planes = probabilities[seen]
    smoothed[seen] = _keep_small(planes, _spread(pixels, planes, _STRENGTH))
    return smoothed


def smooth_coarsely(pixels: Pixels, probabilities: Planes) -> Planes:
    """As `smooth`, of all labels, and computed at half the size: the same distances in a quarter of the time."""
    height, width = pixels.shape[:2]
    half = max(1, width // 2), max(1, height // 2)
    small = np.asarray(cv2.resize(pixels, half, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    planes = np.stack([cv2.resize(plane, half, interpolation=cv2.INTER_AREA) for plane in probabilities])
    spread = [cv2.resize(plane, (width, height)) for plane in _spread(small, planes, _STRENGTH / 4)]
    return _keep_small(probabilities, np.stack(spread))


def _spread(pixels: Pixels, probabilities: Planes, strength: float) -> Planes:
    """`probabilities` after the smoother, which reaches as far as the root of `strength`."""
    smoother = cv2.ximgproc.createFastGlobalSmootherFilter(np.ascontiguousarray(pixels), strength, _COLOURS)
    return np.stack([smoother.filter(plane) for plane in probabilities])


def _keep_small(probabilities: Planes, smoothed: Planes) -> Planes:
    """`smoothed`, with `probabilities` where labels other than background have lost too many of their pixels."""
    before, after = find_strongest(probabilities), find_strongest(smoothed)
    had, has = (np.bincount(winners.ravel(), minlength=len(smoothed)) for winners in (before, after))
    for label in np.flatnonzero(has[1:] < _KEPT * had[1:]) + 1:
        lost = before == label
        smoothed[:, lost] = probabilities[:, lost]
    return smoothed
