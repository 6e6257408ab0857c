"""Figures of each class, and the classes that it is confused with."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tagmask.masks import BACKGROUND, PALETTE
from training.datasets.photos import TaggedPhotos
from training.evaluation.metrics import Counts, nan_to_none
from training.report.measured import Measurements
from training.report.story import Story
from training.report.validation import Validation

MATRIX_CLASSES = 25
"""Greatest number of rows of a matrix."""

UNSURE, NOTHING, OTHERS = "unsure", "nothing", "others"

Confused = tuple[str, float]
"""Another class, and its share of the pixels or photos, percent."""


@dataclass(frozen=True)
class PixelFigures:
    """Percent. `missed` is the class that most of its missed pixels are labelled as, `spilled` the true class of most
    pixels wrongly labelled as it.
    """

    iou: float | None
    precision: float | None
    recall: float | None
    missed: Confused | None
    spilled: Confused | None


@dataclass(frozen=True)
class TagFigures:
    """Percent of photos, predicted without tags: `recall` is the share of the photos with the tag in which the class is
    seen, `precision` the share of the photos in which it is seen that have the tag. `extra` is the class that is seen
    most in photos with the tag without being a tag of theirs.
    """

    recall: float | None
    precision: float | None
    extra: Confused | None


@dataclass(frozen=True)
class ClassRow:
    """All figures of one class; `rounds` has its IoU by round, of class maps first, then of PixelNet's masks.

    `judged` is that of the masks by which the run is judged, `estimate` the IoU to expect, without true masks.
    """

    name: str
    colour: tuple[int, int, int]
    photos: int | None
    estimate: float | None
    rounds: tuple[float | None, ...]
    judged: float | None
    pixels: PixelFigures | None
    tags: TagFigures | None
    without_tags: float | None
    with_tags: float | None

    @property
    def iou(self) -> float | None:
        """IoU of the masks by which the run is judged, percent."""
        return self.pixels.iou if self.pixels else self.judged

    @property
    def quality(self) -> float | None:
        """What classes are ordered by, percent: IoU, known or estimated, or F1 of tags and the classes seen."""
        if self.iou is not None:
            return self.iou
        if self.estimate is not None or self.tags is None or self.tags.recall is None:
            return self.estimate
        recall, precision = self.tags.recall, self.tags.precision or 0.0
        return 2 * recall * precision / (recall + precision) if recall + precision else 0.0


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
    story: Story, data: TaggedPhotos | None, measured: Measurements | None, validation: Validation | None
) -> list[ClassRow]:
    """Every class, the weakest first and those without figures last, then background."""
    photos = data.photos_per_class() if data else {}
    estimate = story.decision.get("estimate", {"iou": {}})["iou"]
    rows = []
    for label, name in enumerate((BACKGROUND, *story.description.classes)):
        compared = (validation.without_tags, validation.with_tags) if validation else ()
        scored = (BACKGROUND, *validation.classes) if validation else ()
        iou = [nan_to_none(total.iou()[scored.index(name)]) for total in compared] if name in scored else [None, None]
        rows.append(
            ClassRow(
                name, PALETTE[label], photos.get(name), estimate.get(name),
                _rounds(story, label), _judged(story, label),
                _pixels(story, measured, label), _tags(story, measured, label), *iou,
            )
        )  # fmt: skip
    known_first = sorted(rows[1:], key=lambda row: (row.quality is None, row.quality or 0.0, row.name))
    return [*known_first, rows[0]]


def matrix(counts: Counts, names: Sequence[str], rest: str, totals: Counts | None = None) -> Matrix:
    """Counts (n, n + 1) of n names, the last column being `rest`, as shares of `totals` (n,), or else of their rows.

    Of more than MATRIX_CLASSES names those with the smallest share on the diagonal get a row; the columns of the others
    are summed. The column `rest` is left out if it is empty.
    """
    totals = counts.sum(axis=1) if totals is None else totals
    hits = np.divide(counts.diagonal(), totals, out=np.full(len(names), np.inf), where=totals > 0)
    selected = np.sort(np.argsort(hits, kind="stable")[:MATRIX_CLASSES])
    rows = [names[index] for index in selected]
    columns, cells = [*rows], [counts[selected][:, selected]]
    if len(rows) < len(names):
        columns.append(OTHERS)
        cells.append((counts[selected, :-1].sum(axis=1) - cells[0].sum(axis=1))[:, None])
    if counts[:, -1].any():
        columns.append(rest)
        cells.append(counts[selected, -1:])
    shares = tuple(
        tuple(100 * cell / total if total else None for cell in row)
        for row, total in zip(np.concatenate(cells, axis=1).tolist(), totals[selected].tolist(), strict=True)
    )
    return Matrix(tuple(rows), tuple(columns), shares, tuple(totals[selected].tolist()), len(names) - len(rows))


def _rounds(story: Story, label: int) -> tuple[float | None, ...]:
    """IoU of a class in the class maps, then in the masks of each round."""
    lines = [story.find(0, "class_maps"), *(story.find(number, "masks") for number in range(1, story.rounds + 1))]
    return tuple(line["iou"][label] for line in lines if "iou" in line)


def _judged(story: Story, label: int) -> float | None:
    """IoU of a class in the masks by which the run is judged, by its ledger."""
    line = story.find(*story.judged.id) if story.judged else {}
    return line["iou"][label] if "iou" in line else None


def _pixels(story: Story, measured: Measurements | None, label: int) -> PixelFigures | None:
    if measured is None or not measured.masks:
        return None
    total, names = measured.pixels, (BACKGROUND, *story.description.classes)
    return PixelFigures(
        iou=nan_to_none(total.iou()[label]),
        precision=nan_to_none(total.precision()[label]),
        recall=nan_to_none(total.recall()[label]),
        missed=_largest(total.counts[label], label, (*names, UNSURE), total.counts[label].sum()),
        spilled=_largest(total.counts[:, label], label, names, total.counts[:, label].sum()),
    )


def _tags(story: Story, measured: Measurements | None, label: int) -> TagFigures | None:
    if measured is None or label == 0 or not measured.tagged.any():
        return None
    index, row = label - 1, measured.tags[label - 1]
    hits, tagged, seen = int(row[index]), int(measured.tagged[index]), int(measured.seen[index])
    return TagFigures(
        recall=100 * hits / tagged if tagged else None,
        precision=100 * hits / seen if seen else None,
        extra=_largest(row[:-1], index, story.description.classes, tagged),
    )


def _largest(counts: Counts, excluded: int, names: Sequence[str], total: int) -> Confused | None:
    """The name of the largest count but that at `excluded`, and its share of `total` in percent; None below 1%."""
    others = counts.copy()
    others[excluded] = 0
    index = int(others.argmax())
    share = 100 * float(others[index]) / max(1, total)
    return (names[index], share) if share >= 1 else None
