"""Which photos an epoch shows: all of rare tags; of frequent ones, which would drown the rare and take time, a part."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from training.datasets.photos import Photo


def shares(photos: Sequence[Photo], tag_photos: int) -> np.ndarray:
    """How often an epoch shows each photo: (N,) float64, above 0 and at most 1, whose sum is whole.

    Photos of a tag that n have are shown min(1, `tag_photos` / n) times, those of several tags as the rarest asks; and
    by less than one photo in all the less, for the sum.
    """
    having = Counter(tag for photo in photos for tag in photo.tags)
    rarest = [min((having[tag] for tag in photo.tags), default=1) for photo in photos]
    asked = np.minimum(1, tag_photos / np.array(rarest))
    total = float(asked.sum())
    return np.minimum(1, asked * (max(1, int(total + 1e-6)) / total))  # the sum may be rounded below a whole one


def drawn(shares: np.ndarray, epoch: int, epochs: int, seed: int) -> np.ndarray:
    """Indices of the photos that `epoch` of `epochs` shows, ascending and as many as the sum of `shares`.

    Photos take turns: all epochs together show each one `epochs` times its share, rounded up or down.
    """
    order = np.random.default_rng(seed).permutation(len(shares))
    # Photos lie end to end on a line, each as long as its share; an epoch takes what lies at 0, 1, 2, … from its start.
    ends = np.cumsum(shares[order])
    places = np.arange(round(ends[-1])) + (epoch + 0.5) / epochs
    return np.sort(order[np.searchsorted(ends, places, side="right").clip(max=len(shares) - 1)])
