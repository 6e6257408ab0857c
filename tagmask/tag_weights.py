"""What the network's guess of a photo's tags says about its pixels, where no tags are given."""

import numpy as np
from numpy.typing import NDArray

_SUREST = 0.999


def tag_weights(probabilities: NDArray[np.float32], shares: NDArray[np.float64]) -> NDArray[np.float32]:
    """Factors of the label probabilities of every pixel: (labels,) float32, 0..1, that of background is 1.

    `probabilities` (C,) are those of the tags in the photo, 0..1, `shares` (C,) the part of the training photos that
    carry each tag, 0..1. A tag that is less likely in this photo than in a training photo loses by the ratio of the
    odds; the others keep what their pixels say, so that a network that cannot tell a tag changes nothing.
    """
    ratios = _odds(probabilities) / _odds(shares)
    return np.concatenate([[1], np.minimum(1, ratios)]).astype(np.float32)


def _odds(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    likely = probabilities.astype(np.float64).clip(1 - _SUREST, _SUREST)
    return likely / (1 - likely)
