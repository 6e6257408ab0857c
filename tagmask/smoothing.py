"""The default finish of a mask: probabilities spread to the edges of the photo, at a tenth of the network's time."""

import cv2
import numpy as np

from tagmask.segmentation import Pixels, Planes
from tagmask.upsampling import find_strongest

_STRENGTH, _COLOURS = 200, 6  # how far probabilities spread, and the difference of colours, of 255, that stops them
_SEEN = 0.1  # a label that is less probable everywhere is left as it is
_KEPT = 0.5  # a label that keeps less than this part of its pixels is left where it was


def smooth(pixels: Pixels, probabilities: Planes) -> Planes:
    """`probabilities` (labels, h, w) float32, smoothed within areas of one colour of `pixels` (h, w, 3) uint8 RGB.

    By the fast global smoother (Min, Choi, Lu, Ham, Sohn and Do, "Fast global image smoothing based on weighted least
    squares", IEEE TIP 2014). By itself it would wipe out what is thin or small and stands out little; where a label,
    background (the first) excepted, would lose more than half of its pixels, these keep the probabilities that they
    had.
    """
    seen = np.flatnonzero(probabilities.max(axis=(1, 2)) >= _SEEN)
    if len(seen) < 2:
        return probabilities
    smoother = cv2.ximgproc.createFastGlobalSmootherFilter(np.ascontiguousarray(pixels), _STRENGTH, _COLOURS)
    smoothed = probabilities.copy()
    for label in seen:
        smoothed[label] = smoother.filter(probabilities[label])
    before, after = find_strongest(probabilities[seen]), find_strongest(smoothed[seen])
    pixels_before, pixels_after = (np.bincount(winners.ravel(), minlength=len(seen)) for winners in (before, after))
    for index in np.flatnonzero((pixels_after < _KEPT * pixels_before) & (seen > 0)):
        lost = before == index
        smoothed[:, lost] = probabilities[:, lost]
    return smoothed
