"""Stage 3, seeds: the superpixels that are confidently one class or background; the rest is void.

Each rule takes what is known of a photo's R superpixels over its L labels (background first, then its tags) and gives
(R,) int: a position among those labels, or -1 for void.
"""

import numpy as np

from training.config import SeedConfig


def from_class_maps(maps: np.ndarray, saliency: np.ndarray, config: SeedConfig) -> np.ndarray:
    """First round: `maps` (R, L - 1) mean class maps, `saliency` (R,) 0..1 -> (R,) int.

    A class map is cut at 0 and divided by its greatest superpixel. Where it is strong but nothing stands out, or the
    other way round, the superpixel stays void.
    """
    strength = relative(maps)
    shown = (strength.max(axis=1) >= config.object_above) & (saliency >= config.object_saliency)
    background = (strength.max(axis=1) < config.background_below) & (saliency <= config.background_saliency)
    return np.where(background, 0, np.where(shown, strength.argmax(axis=1) + 1, -1))


def relative(maps: np.ndarray) -> np.ndarray:
    """Class maps (R, K) cut at 0 and divided by their greatest superpixel: (R, K), 0..1."""
    strength = np.maximum(maps, 0)
    divided: np.ndarray = strength / np.maximum(strength.max(axis=0, keepdims=True), 1e-6)
    return divided


def from_masks(shares: np.ndarray, confidence: np.ndarray, config: SeedConfig) -> np.ndarray:
    """Later rounds: `shares` (R, L) of each superpixel's pixels by mask label, `confidence` (R, L) mean probability
    of each label -> (R,) int.
    """
    label = shares.argmax(axis=1)
    rows = np.arange(len(label))
    sure = (shares[rows, label] >= config.agreement) & (confidence[rows, label] >= config.confidence)
    return np.where(sure, label, -1)
