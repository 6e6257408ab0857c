"""What is measured over a run's photos: confusion of pixels, confusion of tags, and a score for each photo."""

from functools import partial
from pathlib import Path

import numpy as np

from tagmask.errors import DataError
from tagmask.progress import Advance, silent
from training.datasets.parallel import map_in_order
from training.datasets.photos import Photo, TaggedPhotos
from training.evaluation.measure import stage_counts
from training.evaluation.metrics import Confusion, Counts
from training.evaluation.run_files import DAMAGED
from training.stages.base import MaskStage
from training.stages.masks import Masks, seen_labels

UNREADABLE = (DataError, *DAMAGED)
"""Raised for a photo or a stage's file that is missing, damaged, or does not fit the others."""


PhotoFigures = tuple[Counts | None, frozenset[int] | None]
"""Confusion of one photo with the truth, and the labels seen in it without tags; None if unknown."""


class Measurements:
    """Sums over photos.

    `pixels` is the confusion with the true masks of `masks` photos. `tags` (C, C + 1) counts photos by tag: on the
    diagonal those in which the tag is seen without tags, in other columns those in which a class is seen that
    is no tag of the photo, and in the last column those in which nothing is seen. `tagged` and `seen` (C,) count the
    photos that have each tag, and in which each class is seen. `iou`, 0..100, and `f1`, 0..1, are scores by id: the
    photo's own mIoU, and the F1 of its tags and the classes seen. `mismatches` has by id the labels that are seen but
    are no tags, and those that are tags but not seen. `unread` photos could not be read.
    """

    def __init__(self, classes: int) -> None:
        self.pixels, self.masks, self.unread = Confusion(classes + 1), 0, 0
        self.tags: Counts = np.zeros((classes, classes + 1), dtype=np.int64)
        self.tagged: Counts = np.zeros(classes, dtype=np.int64)
        self.seen: Counts = np.zeros(classes, dtype=np.int64)
        self.iou: dict[str, float] = {}
        self.f1: dict[str, float] = {}
        self.mismatches: dict[str, tuple[list[int], list[int]]] = {}

    def add(self, photo: str, tags: frozenset[int], counts: Counts | None, seen: frozenset[int] | None) -> None:
        """Count one photo by its id, the labels of its tags, and its figures."""
        if counts is not None and counts.any():
            alone = Confusion(len(counts))
            alone.counts = counts
            self.iou[photo] = alone.miou()
            self.pixels.counts += counts
            self.masks += 1
        if seen is None:
            return
        self.tagged[[label - 1 for label in tags]] += 1
        self.seen[[label - 1 for label in seen]] += 1
        for tag in tags:
            self.tags[tag - 1, [label - 1 for label in (seen - tags) | (seen & {tag})]] += 1
            self.tags[tag - 1, -1] += not seen
        self.f1[photo] = 2 * len(seen & tags) / (len(seen) + len(tags)) if seen | tags else 1.0
        if seen != tags:
            self.mismatches[photo] = sorted(seen - tags), sorted(tags - seen)


def measure_photos(
    data: TaggedPhotos, run: Path, stage: MaskStage, *, workers: int = 1, advance: Advance = silent
) -> Measurements:
    """Measure the masks of `stage` on all photos, in `workers` processes (1: in this one).

    A photo whose files are missing, damaged or do not fit it is counted as unread.
    """
    total = Measurements(len(data.classes))
    work = partial(measure_photo, run=run, stage=stage, classes=data.classes, mask_classes=data.mask_classes)
    results = map_in_order(work, data.photos, workers=workers, advance=advance)
    for photo, figures in zip(data.photos, results, strict=True):
        if figures is None:
            total.unread += 1
        else:
            total.add(photo.id, frozenset(photo.labels(data.classes)) - {0}, *figures)
    return total


def measure_photo(
    photo: Photo, *, run: Path, stage: MaskStage, classes: tuple[str, ...], mask_classes: tuple[str, ...]
) -> PhotoFigures | None:
    """The figures of a photo; None if its files cannot be read."""
    try:
        counts = stage_counts(photo, stage, run=run, classes=classes, mask_classes=mask_classes)
        return counts, seen_labels(photo, run, stage.round) if isinstance(stage, Masks) else None
    except UNREADABLE:
        return None
