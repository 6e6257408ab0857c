"""The estimate of mIoU without true masks against the truth, on kinds of photos that its fit left out.

    python -m benchmarks.estimate PHOTOS --suite OUT [--rows animals,tiles,…]

OUT holds rows of `benchmarks.suite`. The points are the labels and masks of every round of their runs, and the labels
of the first round spoiled in several ways. Results of superpixels are left out: they share the outlines of the
evidence, so they agree with it too well. Prints the lines for `training/evaluation/estimate.py`, and the errors of a
fit to all other kinds of photos. Signs are kept in OUT/<row>/signs.json.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer
from numpy.typing import NDArray
from pydantic import TypeAdapter
from scipy.stats import spearmanr

from benchmarks.networks import Mask, scaled, true_mask
from benchmarks.suite import MASKED, ROWS
from tagmask import files
from tagmask.masks import VOID
from training.datasets import load
from training.datasets.photos import Photo, TaggedPhotos
from training.evaluation.estimate import Line, SignCounter, Signs
from training.evaluation.metrics import Confusion
from training.run.description import read_description
from training.run.layout import Layout
from training.run.ledger import Ledger
from training.run.plan import run_stages
from training.stages.base import MaskStage
from training.stages.evidence import add_signs

STAGES = ("labels", "masks")

MaskOf = Callable[[Photo], Mask]


@dataclass(frozen=True)
class Point:
    """Masks of a row: true IoU by label, percent, None where undefined, and the signs of each."""

    row: str
    masks: str
    iou: list[float | None]
    signs: list[Signs]

    @property
    def kind(self) -> str:
        """Photos of two rows may be from one data set."""
        return ROWS[self.row].parts[0].name


def main(
    photos: Path,
    suite: Annotated[Path, typer.Option(help="The --out of `benchmarks.suite`.")],
    rows: Annotated[str, typer.Option(help="Comma-separated rows.")] = ",".join(MASKED),
) -> None:
    """Collect the points, fit, and print the table."""
    points = [point for row in rows.split(",") for point in read_points(photos, suite / row, row)]
    kinds = sorted({point.kind for point in points})
    others = {kind: fit([point for point in points if point.kind != kind]) for kind in kinds}
    pairs = np.array([(truth(point), others[point.kind](point)) for point in points])  # (n, 2) percent
    print("| row | masks | true mIoU | estimate |\n| --- | --- | --- | --- |")
    for point, (true, guess) in zip(points, pairs, strict=True):
        print(f"| {point.row} | {point.masks} | {true:.1f} | {guess:.1f} |")
    print_errors("all", pairs)
    print_errors("not spoiled", pairs[[not point.masks.startswith("spoiled") for point in points]])
    print_errors("PixelNet's masks", pairs[[point.masks.endswith(": masks") for point in points]])
    for row in rows.split(","):
        print_errors(row, pairs[[point.row == row for point in points]])
    print(fit(points))


def print_errors(title: str, pairs: NDArray[np.float64]) -> None:
    """How far the estimates are from the truth: `pairs` (n, 2), truth first, percent."""
    true, guess = pairs.T
    error, rank = guess - true, spearmanr(guess, true).statistic
    mean, root = np.abs(error).mean(), np.sqrt((error**2).mean())
    bias = f"bias {error.mean():+.1f}, Spearman {rank:.2f}"
    print(f"{title}: {len(error)} points, mean |error| {mean:.1f}, RMSE {root:.1f}, {bias}")


def read_points(photos: Path, folder: Path, row: str) -> list[Point]:
    """The points of a row, from their file or from the row's run."""
    kept = folder / "signs.json"
    if not kept.is_file():
        parts = [folder / part.name for part in ROWS[row].parts]
        data = load(parts, split="train", classes=ROWS[row].classes)
        found = [asdict(point) for point in collect(data, folder / "run", row)]
        files.write_text(kept, json.dumps(found) + "\n")
    return TypeAdapter(list[Point]).validate_json(kept.read_text())


def collect(data: TaggedPhotos, run: Path, row: str) -> Iterator[Point]:
    truths = {photo.id: true_mask(photo, data) for photo in data.photos if photo.mask}
    for (number, title), mask_of in {**stage_masks(data, run), **spoiled_masks(data, run)}.items():
        confusion, signs = Confusion(len(data.classes) + 1), SignCounter(len(data.classes))
        for photo in data.photos:
            mask = mask_of(photo)
            add_signs(signs, photo, run, number, data.classes, mask)
            if (true := truths.get(photo.id)) is not None:
                confusion.add(scaled(mask, true), true)
        iou = [None if np.isnan(each) else float(each) for each in confusion.iou()]
        yield Point(row, title, iou, signs.signs())


def stage_masks(data: TaggedPhotos, run: Path) -> dict[tuple[int, str], MaskOf]:
    """The results of the stages of `run` that have finished, by round and title."""
    layout = Layout(run)
    ledger = Ledger(layout.ledger)
    return {
        (stage.round, stage.title): partial(stage.mask, run=run, classes=data.classes)
        for stage in run_stages(read_description(layout).settings)
        if isinstance(stage, MaskStage) and stage.name in STAGES and ledger.find(*stage.id)
    }


def spoiled_masks(data: TaggedPhotos, run: Path) -> dict[tuple[int, str], MaskOf]:
    """The labels of the first round, spoiled."""
    labels = stage_masks(data, run)[1, "round 1: labels"]
    place = {photo.id: number for number, photo in enumerate(data.photos)}

    def whole(photo: Photo) -> Mask:
        """The tag that covers most, everywhere."""
        mask = labels(photo)
        counts = np.bincount(mask[mask != VOID], minlength=len(data.classes) + 1)
        tags = np.array(photo.labels(data.classes)[1:])
        return np.full_like(mask, tags[counts[tags].argmax()] if len(tags) else 0)

    def nothing(photo: Photo) -> Mask:
        return np.zeros_like(labels(photo))

    def others(photo: Photo) -> Mask:
        """The mask of another photo in the tags of this one."""
        other = data.photos[(place[photo.id] + 37) % len(data.photos)]
        tags = photo.labels(data.classes)[1:]
        table = np.zeros(256, dtype=np.uint8)
        table[VOID] = VOID
        for number, label in enumerate(other.labels(data.classes)[1:]):
            table[label] = tags[number % len(tags)] if tags else 0
        return scaled(table[labels(other)], labels(photo))

    def grown(photo: Photo, pixels: int) -> Mask:
        """Dilated, or eroded by a negative number of pixels."""
        mask, kernel = labels(photo).copy(), np.ones((2 * abs(pixels) + 1,) * 2, dtype=np.uint8)
        painted = np.where(mask == VOID, 0, mask)
        if pixels > 0:
            return np.where(painted > 0, mask, cv2.dilate(painted, kernel)).astype(np.uint8)
        mask[(painted > 0) & (cv2.erode((painted > 0).astype(np.uint8), kernel) == 0)] = 0
        return mask

    def half(photo: Photo, spoil: MaskOf) -> Mask:
        return spoil(photo) if place[photo.id] % 4 < 2 else labels(photo)

    spoiled: dict[str, MaskOf] = {
        "whole photos": whole,
        "nothing": nothing,
        "another photo's": others,
        "shrunk": partial(grown, pixels=-6),
        "grown": partial(grown, pixels=10),
        "grown more": partial(grown, pixels=25),
        "half of them whole photos": partial(half, spoil=whole),
        "half of them another photo's": partial(half, spoil=others),
    }
    return {(1, f"spoiled: {title}"): mask for title, mask in spoiled.items()}


def truth(point: Point) -> float:
    return float(np.mean([each for each in point.iou if each is not None]))


@dataclass(frozen=True)
class Fit:
    """The lines of background and of classes."""

    background: Line
    classes: Line

    def __call__(self, point: Point) -> float:
        """The estimate of mIoU, percent."""
        known = [label for label, each in enumerate(point.iou) if each is not None]
        lines = (self.classes if label else self.background for label in known)
        return float(np.mean([line.iou(point.signs[label]) for label, line in zip(known, lines, strict=True)]))


def fit(points: list[Point]) -> Fit:
    """Least squares, in which each kind of photos counts alike."""
    return Fit(_fit(points, lambda label: label == 0), _fit(points, lambda label: label > 0))


def _fit(points: list[Point], chosen: Callable[[int], bool]) -> Line:
    rows = [
        (point.kind, signs.supported, iou)
        for point in points
        for label, (iou, signs) in enumerate(zip(point.iou, point.signs, strict=True))
        if iou is not None and chosen(label)
    ]
    kinds, supported, iou = zip(*rows, strict=True)
    slope, constant = np.polyfit(supported, iou, 1, w=[kinds.count(kind) ** -0.5 for kind in kinds])
    return Line(constant=round(float(constant), 1), slope=round(float(slope), 1))


if __name__ == "__main__":
    typer.run(main)
