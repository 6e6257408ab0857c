"""Class by class: how good each is, and what it is taken for."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan

import numpy as np

from tagmask.masks import BACKGROUND, PALETTE
from training.datasets.photos import TaggedPhotos
from training.evaluation.metrics import Counts, Figures
from training.report.measured import Measured
from training.report.story import Story
from training.report.validation import Validation

MATRIX_CLASSES = 25
"""Rows of a matrix at most."""

UNSURE, NOTHING, OTHERS = "unsure", "nothing", "others"

Mixed = tuple[str, float]
"""Another class, and its share of the pixels or photos, percent."""


@dataclass(frozen=True)
class ByPixels:
    """Percent; `missed` is what most of the class's pixels are taken for, if not for itself, and `spilled` what most of
    the pixels that are painted as it are in truth.
    """

    iou: float | None
    precision: float | None
    recall: float | None
    missed: Mixed | None
    spilled: Mixed | None


@dataclass(frozen=True)
class ByTags:
    """Percent of photos, when no tags are given: `found` of those with the tag in which the class is seen, `right` of
    those in which it is seen that have the tag; `wrongly` is the class that is seen most in photos with the tag, but is
    no tag of theirs.
    """

    found: float | None
    right: float | None
    wrongly: Mixed | None


@dataclass(frozen=True)
class ClassRow:
    """What is known of one class; `rounds` has its IoU by round, of class maps and of PixelNet's masks."""

    name: str
    colour: tuple[int, int, int]
    photos: int | None
    rounds: tuple[float | None, ...]
    pixels: ByPixels | None
    tags: ByTags | None
    without_tags: float | None
    with_tags: float | None

    @property
    def iou(self) -> float | None:
        """IoU of the masks that the run is judged by, percent."""
        if self.pixels:
            return self.pixels.iou
        return self.rounds[-1] if self.rounds else None

    @property
    def quality(self) -> float | None:
        """What weak classes are known by, percent: IoU, or F1 of the photos' tags and what is seen in them."""
        if self.iou is not None or self.tags is None or self.tags.found is None:
            return self.iou
        found, right = self.tags.found, self.tags.right or 0.0
        return 2 * found * right / (found + right) if found + right else 0.0


@dataclass(frozen=True)
class Matrix:
    """Shares, percent of each row's total: `shares[row][column]`, None where the total is 0.

    The first columns are the rows' names in the same order; `left_out` names have no row.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    shares: tuple[tuple[float | None, ...], ...]
    totals: tuple[int, ...]
    left_out: int


def class_rows(
    story: Story, data: TaggedPhotos | None, found: Measured | None, validation: Validation | None
) -> list[ClassRow]:
    """Every class, the weakest first and unknown ones last, then background."""
    photos = data.photos_per_class() if data else {}
    rows = []
    for label, name in enumerate((BACKGROUND, *story.asked.classes)):
        compared = (validation.without_tags, validation.with_tags) if validation else ()
        known = (BACKGROUND, *validation.classes) if validation else ()
        iou = [_at(total.iou(), known.index(name)) for total in compared] if name in known else [None, None]
        rows.append(
            ClassRow(
                name, PALETTE[label], photos.get(name), _rounds(story, label), _pixels(story, found, label),
                _tags(story, found, label), *iou,
            )
        )  # fmt: skip
    known_first = sorted(rows[1:], key=lambda row: (row.quality is None, row.quality or 0.0, row.name))
    return [*known_first, rows[0]]


def matrix(counts: Counts, names: Sequence[str], rest: str, totals: Counts | None = None) -> Matrix:
    """Counts (n, n + 1) of n names, the last column being `rest`, as shares of `totals` (n,), or else of their rows.

    Of more than MATRIX_CLASSES names those with the smallest share on the diagonal are shown, and the columns of the
    others put together. A last column without any count is left out.
    """
    totals = counts.sum(axis=1) if totals is None else totals
    hits = np.divide(counts.diagonal(), totals, out=np.full(len(names), np.inf), where=totals > 0)
    chosen = np.sort(np.argsort(hits, kind="stable")[:MATRIX_CLASSES])
    shown = [names[index] for index in chosen]
    columns, cells = [*shown], [counts[chosen][:, chosen]]
    if len(shown) < len(names):
        columns.append(OTHERS)
        cells.append((counts[chosen, :-1].sum(axis=1) - cells[0].sum(axis=1))[:, None])
    if counts[:, -1].any():
        columns.append(rest)
        cells.append(counts[chosen, -1:])
    shares = tuple(
        tuple(100 * cell / total if total else None for cell in row)
        for row, total in zip(np.concatenate(cells, axis=1).tolist(), totals[chosen].tolist(), strict=True)
    )
    return Matrix(tuple(shown), tuple(columns), shares, tuple(totals[chosen].tolist()), len(names) - len(shown))


def _rounds(story: Story, label: int) -> tuple[float | None, ...]:
    """IoU of a class in the masks that each round ended with, from the tag classifier's class maps on."""
    lines = [story.find(0, "maps"), *(story.find(number, "masks") for number in range(1, story.rounds + 1))]
    return tuple(line["iou"][label] for line in lines if "iou" in line)


def _pixels(story: Story, found: Measured | None, label: int) -> ByPixels | None:
    if found is None or not found.masks:
        return None
    total, names = found.pixels, (BACKGROUND, *story.asked.classes)
    return ByPixels(
        iou=_at(total.iou(), label),
        precision=_at(total.precision(), label),
        recall=_at(total.recall(), label),
        missed=_largest(total.counts[label], label, (*names, UNSURE), total.counts[label].sum()),
        spilled=_largest(total.counts[:, label], label, names, total.counts[:, label].sum()),
    )


def _tags(story: Story, found: Measured | None, label: int) -> ByTags | None:
    if found is None or label == 0 or not found.tagged.any():
        return None
    index, row = label - 1, found.tags[label - 1]
    hits, tagged, seen = int(row[index]), int(found.tagged[index]), int(found.seen[index])
    return ByTags(
        found=100 * hits / tagged if tagged else None,
        right=100 * hits / seen if seen else None,
        wrongly=_largest(row[:-1], index, story.asked.classes, tagged),
    )


def _at(figures: Figures, index: int) -> float | None:
    value = float(figures[index])
    return None if isnan(value) else value


def _largest(counts: Counts, but: int, names: Sequence[str], total: int) -> Mixed | None:
    """The name of the largest of `counts` besides one, and its share of `total` in percent; None below 1%."""
    others = counts.copy()
    others[but] = 0
    index = int(others.argmax())
    share = 100 * float(others[index]) / max(1, total)
    return (names[index], share) if share >= 1 else None
