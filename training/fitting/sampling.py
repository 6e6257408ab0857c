"""Which photos an epoch shows: all of rare tags, and of frequent tags and those that show nothing a part."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from training.datasets.photos import Photo


def photo_shares(photos: Sequence[Photo], tag_photos: int) -> np.ndarray:
    """How often an epoch shows each photo: (N,) float64, above 0 and at most 1, with a whole sum.

    A photo whose tag has n photos is shown min(1, `tag_photos` / n) times per epoch; with several tags, the rarest
    counts. Photos without tags are shown as often in all as those with tags, but each at most once. Photos with a
    correction are shown in every epoch. All shares are then scaled down, by less than one photo in total, for their sum
    to be whole.
    """
    counts = Counter(tag for photo in photos for tag in photo.tags)
    rarest = [min((counts[tag] for tag in photo.tags), default=1) for photo in photos]
    wanted = np.minimum(1, tag_photos / np.array(rarest))
    untagged = np.array([not photo.tags for photo in photos])
    if untagged.any() and not untagged.all():
        wanted[untagged] = min(1, wanted[~untagged].sum() / untagged.sum())
    wanted[[photo.correction is not None for photo in photos]] = 1
    total = float(wanted.sum())
    return np.minimum(1, wanted * (max(1, int(total + 1e-6)) / total))  # the sum may be rounded below a whole one


def draw_epoch(shares: np.ndarray, epoch: int, epochs: int, seed: int) -> np.ndarray:
    """Indices of the photos that `epoch` of `epochs` shows: ascending, as many as the sum of `shares`.

    Photos take turns: over all epochs each is shown `epochs` times its share, rounded up or down.
    """
    order = np.random.default_rng(seed).permutation(len(shares))
    # Photos lie end to end on a line, each as long as its share; an epoch takes what lies at 0, 1, 2, … from its start.
    ends = np.cumsum(shares[order])
    places = np.arange(round(ends[-1])) + (epoch + 0.5) / epochs
    return np.sort(order[np.searchsorted(ends, places, side="right").clip(max=len(shares) - 1)])
