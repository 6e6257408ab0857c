"""Accuracy of a bundle on corrected photos, without tags and with their tags, and how far chance may have moved it.

Only pixels that a person vouches for count. mIoU is the mean over background and the classes that have any.

The intervals are 95% percentile intervals of the bootstrap over photos, widened for few photos: the expanded percentile
interval (Hesterberg, "What Teachers Should Know About the Bootstrap", The American Statistician 69, 2015).
`benchmarks/interval.py` measures how often they hold the true figure.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tagmask.classes import spell
from tagmask.masks import VOID
from tagmask.photos import read_photo
from tagmask.progress import Advance, silent
from tagmask.scores import Interval, Measured
from tagmask.segmenter import Segmenter
from training.datasets.photos import Photo
from training.evaluation.evaluate import both_masks
from training.evaluation.measure import truth_table
from training.evaluation.metrics import confusion
from training.stages.vouched import vouched_labels

LEAST = 2
"""Photos of which an interval can be told."""

RESAMPLES = 2000
"""Draws of the bootstrap."""

PixelCounts = NDArray[np.int64]
"""Of each photo, how many pixels of each of C + 1 labels are hit, true, and predicted: (N, C + 1, 3)."""


def measure(segmenter: Segmenter, photos: Sequence[Photo], advance: Advance = silent) -> Measured | None:
    """The accuracy on corrected `photos`; None if fewer than LEAST of them say anything of the bundle's classes.

    `advance(1)` follows each photo. Raises DataError for a photo that cannot be read.
    """
    without_tags, with_tags = count_pixels(segmenter, photos, segmenter.classes[1:], advance)
    if len(with_tags) < LEAST:
        return None
    return Measured(len(with_tags), miou_interval(without_tags), miou_interval(with_tags))


def count_pixels(
    segmenter: Segmenter, photos: Sequence[Photo], classes: Sequence[str], advance: Advance = silent
) -> tuple[PixelCounts, PixelCounts]:
    """The pixels without tags and with the photos' tags, by background and `classes`.

    Tags other than `classes` are ignored, and photos that say nothing of these are left out. A class that the bundle
    does not know is hit nowhere. `advance(1)` follows each photo. Raises DataError for a photo that cannot be read.
    """
    names = spell(segmenter.classes, classes)
    rows = truth_table(names, classes)  # label of the bundle -> label of `classes`
    counted = []
    for photo in photos:
        assert photo.correction is not None
        tags = tuple(tag for tag in spell(photo.tags, classes) if tag in classes)
        truth = vouched_labels(replace(photo, tags=tags), tuple(classes), photo.correction.size)
        if (truth != VOID).any():
            prediction = segmenter.predict(read_photo(photo.path))
            known = [tag for tag in tags if tag in names]
            masks = both_masks(prediction, segmenter, known, photo.correction.size)
            counted.append([_count(rows[mask], truth, len(classes) + 1) for mask in masks])
        advance(1)
    both = np.array(counted, dtype=np.int64).reshape(len(counted), 2, len(classes) + 1, 3)
    return both[:, 0], both[:, 1]


def _count(mask: NDArray[np.uint8], truth: NDArray[np.uint8], labels: int) -> PixelCounts:
    """PixelCounts of a photo: (C + 1, 3) int64."""
    table = confusion(mask, truth, labels)
    return np.stack([table.diagonal(), table.sum(axis=1), table[:, :-1].sum(axis=0)], axis=-1)


def mious(pixels: NDArray[np.number[Any]]) -> NDArray[np.float64]:
    """mIoU in percent of `pixels` (…, C + 1, 3) summed over photos: (…,), NaN without true pixels."""
    hit, true, predicted = np.moveaxis(pixels.astype(np.float64), -1, 0)
    known = true > 0
    iou = np.divide(100 * hit, true + predicted - hit, out=np.zeros_like(hit), where=known)
    with np.errstate(invalid="ignore"):
        figures: NDArray[np.float64] = iou.sum(axis=-1) / known.sum(axis=-1)
    return figures


def miou_interval(pixels: PixelCounts) -> Interval:
    """The mIoU of at least LEAST photos."""
    return _interval(mious(_resampled(pixels)), float(mious(pixels.sum(axis=0))), len(pixels))


def gain_interval(after: PixelCounts, before: PixelCounts) -> Interval:
    """How much higher the mIoU of `after` is than that of `before`, on the same photos, at least LEAST."""
    gains = mious(_resampled(after)) - mious(_resampled(before))
    gain = mious(after.sum(axis=0)) - mious(before.sum(axis=0))
    return _interval(gains, float(gain), len(after))


def _interval(figures: NDArray[np.float64], value: float, photos: int) -> Interval:
    """The interval of `value`, by the `figures` (RESAMPLES,) of draws of so many `photos`."""
    from scipy.special import ndtr, stdtrit  # the command line need not wait for SciPy

    tail = ndtr(np.sqrt(photos / (photos - 1)) * stdtrit(photos - 1, 0.025))
    low, high = np.quantile(figures, (tail, 1 - tail))
    return Interval(value, float(low), float(high))


def _resampled(pixels: PixelCounts) -> NDArray[np.float64]:
    """The sums over photos of each draw, (RESAMPLES, C + 1, 3); draws are the same for the same number of photos."""
    photos = len(pixels)
    draws = np.random.default_rng(0).multinomial(photos, np.full(photos, 1 / photos), size=RESAMPLES)
    sums = draws.astype(np.float64) @ pixels.reshape(photos, -1).astype(np.float64)  # exact, as counts are below 2**53
    return sums.reshape(RESAMPLES, *pixels.shape[1:])
