"""What tags say about the pixels of a photo: those that the network sees, or those that are given."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tagmask.segmentation import Planes

SURE = 0.8
"""Probability that a given tag has where the network is surest of it."""

MOST = 3.0
"""Greatest factor by which a given tag gains, so that tags which are wrong are hardly painted."""

_SUREST = 0.999


def tag_weights(probabilities: NDArray[np.float32], shares: NDArray[np.float64]) -> NDArray[np.float32]:
    """Factors of the label probabilities of every pixel: (labels,) float32, 0..1, that of background is 1.

    `probabilities` (C,) are those of the tags in the photo, 0..1, `shares` (C,) the part of the training photos that
    carry each tag, 0..1. A tag that is less likely in this photo than in a training photo loses by the ratio of the
    odds; the others keep what their pixels say, so that a network that cannot tell a tag changes nothing.
    """
    ratios = _odds(probabilities) / _odds(shares)
    return np.concatenate([[1], np.minimum(1, ratios)]).astype(np.float32)


def given_weights(probabilities: Planes, least_areas: NDArray[np.float64]) -> NDArray[np.float32]:
    """Factors of the probabilities of background and given tags at every pixel: (L,) float32, 1..MOST.

    `probabilities` (L, h, w) of these labels, background first, sum to 1. `least_areas` (L - 1,), 0..1, are the parts
    of a photo that the tags cover at least. A tag that is given is somewhere: it gains until so many pixels, those
    where the network is surest of it, reach SURE, before all labels are made to sum to 1 again.
    """
    surest = [np.quantile(plane, 1 - area) for plane, area in zip(probabilities[1:], least_areas, strict=True)]
    raised = (SURE / np.maximum(surest, 1e-6)).clip(1, MOST)
    return np.concatenate([[1], raised]).astype(np.float32)


def raise_given(probabilities: Planes, labels: Sequence[int], least_areas: NDArray[np.float64]) -> Planes:
    """`probabilities` (L, h, w) of `labels`, background 0 and given tags, raised by `given_weights`: sum to 1 again.

    `least_areas` (C,) are those of all classes.
    """
    weights = given_weights(probabilities, least_areas[np.array(labels[1:], dtype=np.intp) - 1])
    raised = probabilities * weights[:, None, None]
    raised /= raised.sum(axis=0)
    return raised


def _odds(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    likely = probabilities.astype(np.float64).clip(1 - _SUREST, _SUREST)
    return likely / (1 - likely)
