"""What is found by going through a run's photos: confusion of pixels, of tags, and how well each photo went."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from tagmask.errors import DataError
from tagmask.progress import Advance, silent
from training.datasets.photos import Photo, TaggedPhotos
from training.evaluation import measure
from training.evaluation.metrics import Confusion, Counts
from training.parallel import map_photos, processes
from training.run.layout import Layout
from training.run.plan import Name

UNREADABLE = (DataError, OSError, EOFError, ValueError, IndexError)
"""What is raised by a photo or a stage's file that is not there, is damaged, or does not fit the others."""


@dataclass(frozen=True)
class Looked:
    """One photo by its id: its tags' labels, its confusion with the truth, and the labels seen when no tags are given.

    What is not known is None.
    """

    photo: str
    tags: frozenset[int]
    counts: Counts | None
    seen: frozenset[int] | None


class Measured:
    """Sums over photos.

    `pixels` is the confusion with the true masks of `masks` photos. `tags` (C, C + 1) counts photos by tag: on the
    diagonal those in which the tag is seen when no tags are given, in other columns those in which a class is seen that
    is no tag of the photo, and in the last one those in which nothing is seen. `tagged` and `seen` (C,) count the
    photos that have each tag, and in which each class is seen. `iou`, 0..100, and `f1`, 0..1, tell by id how well a
    photo went: its own mIoU, and the F1 of its tags and what is seen. `astray` has by id the labels that are seen and
    no tags, and that are tags and not seen. `unread` photos could not be looked at.
    """

    def __init__(self, classes: int) -> None:
        self.pixels, self.masks, self.unread = Confusion(classes + 1), 0, 0
        self.tags: Counts = np.zeros((classes, classes + 1), dtype=np.int64)
        self.tagged: Counts = np.zeros(classes, dtype=np.int64)
        self.seen: Counts = np.zeros(classes, dtype=np.int64)
        self.iou: dict[str, float] = {}
        self.f1: dict[str, float] = {}
        self.astray: dict[str, tuple[list[int], list[int]]] = {}

    def add(self, looked: Looked) -> None:
        """Count one photo."""
        if looked.counts is not None and looked.counts.any():
            alone = Confusion(len(looked.counts))
            alone.counts = looked.counts
            self.iou[looked.photo] = alone.miou()
            self.pixels.counts += looked.counts
            self.masks += 1
        if looked.seen is not None:
            self._add_tags(looked.photo, looked.tags, looked.seen)

    def _add_tags(self, photo: str, tags: frozenset[int], seen: frozenset[int]) -> None:
        self.tagged[[label - 1 for label in tags]] += 1
        self.seen[[label - 1 for label in seen]] += 1
        for tag in tags:
            self.tags[tag - 1, [label - 1 for label in (seen - tags) | (seen & {tag})]] += 1
            self.tags[tag - 1, -1] += not seen
        self.f1[photo] = 2 * len(seen & tags) / (len(seen) + len(tags))
        if seen != tags:
            self.astray[photo] = sorted(seen - tags), sorted(tags - seen)


def survey(data: TaggedPhotos, layout: Layout, shown: Name, *, workers: int = 1, advance: Advance = silent) -> Measured:
    """Go through all photos, in `workers` processes (1: in this one), with the masks of the round and stage `shown`.

    A photo whose files are not there, are damaged or do not fit it is counted as unread.
    """
    total = Measured(len(data.classes))
    work = partial(look_at, layout=layout, shown=shown, classes=data.classes, mask_classes=data.mask_classes)
    for looked in _each(work, data.photos, workers, advance):
        if looked is None:
            total.unread += 1
        else:
            total.add(looked)
    return total


def look_at(
    photo: Photo, *, layout: Layout, shown: Name, classes: tuple[str, ...], mask_classes: tuple[str, ...]
) -> Looked | None:
    """What there is to know of a photo; None when that cannot be read."""
    number, stage = shown
    tags = frozenset(photo.labels(classes)) - {0}
    try:
        counts = measure.stage_counts(
            photo, "maps" if stage == "masks" else stage, layout=layout, number=number, classes=classes,
            mask_classes=mask_classes,
        )  # fmt: skip
        seen = None
        if stage == "masks":
            shares = np.load(layout.round(number).seen(photo.id))
            seen = frozenset(np.flatnonzero(shares >= measure.PRESENT).tolist()) - {0}
    except UNREADABLE:
        return None
    return Looked(photo.id, tags, counts, seen)


def _each(
    work: Callable[[Photo], Looked | None], photos: tuple[Photo, ...], workers: int, advance: Advance
) -> Iterator[Looked | None]:
    if workers <= 1:
        for photo in photos:
            yield work(photo)
            advance(1)
        return
    with processes(workers) as pool:
        yield from map_photos(work, photos, pool=pool, workers=workers, advance=advance)
