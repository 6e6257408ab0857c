"""Where masks go wrong, and what it would be worth to correct one kind of error.

    python -m benchmarks.losses RUN DATA --split train_small --classes cat,cow,... [--every 4]
    python -m benchmarks.losses MODEL.onnx DATA --split val --classes cat,cow,... [--tags]

For each stage of each round of a run, or for a bundle: mIoU, and precision and recall by class; mIoU of photos with one
tag and with several, and by the size of the objects; the share of wrong pixels by distance to the true boundary; and
the mIoU of the same masks with one kind of error repaired by the true mask, all others left:

    background   true background is never painted
    objects      no object is taken for background
    classes      no object is taken for another
    boundaries   no error within 5 pixels of the true boundary
"""

from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.command import Classes, Every, Split, command_of
from benchmarks.networks import Mask, scaled, true_mask
from tagmask.cores import cores
from tagmask.masks import BACKGROUND, VOID
from tagmask.photos import read_photo
from tagmask.segmenter import Segmenter
from training.datasets import load
from training.datasets.parallel import map_photos, processes
from training.datasets.photos import Photo, TaggedPhotos
from training.evaluation.measure import truth_table
from training.evaluation.metrics import Confusion
from training.run.description import read_description
from training.run.layout import Layout
from training.run.plan import run_stages
from training.stages.base import MaskStage

SIZES = {"objects < 5%": 0.05, "5-20%": 0.2, "> 20%": 1.0}
"""Upper limits of the share of a photo's known pixels that its objects have."""

DISTANCES = {"0-2 px": 2.0, "2-5": 5.0, "5-10": 10.0, "10-20": 20.0, "> 20": np.inf}
"""Upper limits of the distance to the nearest pixel of another true label."""

BOUNDARY = 5.0
"""Pixels from the true boundary within which the repair "boundaries" reaches."""


class Losses:
    """Errors of masks, summed over photos; `classes` counts background."""

    def __init__(self, classes: int) -> None:
        self.total = Confusion(classes)
        self.photos = {name: Confusion(classes) for name in ("one tag", "several tags", *SIZES)}
        self.repaired = {name: Confusion(classes) for name in ("background", "objects", "classes", "boundaries")}
        self.pixels = dict.fromkeys(DISTANCES, 0)
        self.wrong = dict.fromkeys(DISTANCES, 0)

    def add(self, mask: Mask, truth: Mask, tags: int) -> None:
        """One photo of `tags` tags: (H, W) uint8 labels and true labels, 255 void, which is wrong in `mask`."""
        known = truth != VOID
        if not known.any():
            return
        share = (truth[known] > 0).mean()
        size = next(name for name, limit in SIZES.items() if share <= limit)
        for total in (self.total, self.photos["one tag" if tags == 1 else "several tags"], self.photos[size]):
            total.add(mask, truth)
        distance = boundary_distance(truth)
        for name, repaired in repairs(mask, truth, distance).items():
            self.repaired[name].add(repaired, truth)
        bins = np.searchsorted(list(DISTANCES.values()), distance[known])
        wrong = (mask != truth)[known]
        for number, name in enumerate(DISTANCES):
            self.pixels[name] += int((bins == number).sum())
            self.wrong[name] += int(wrong[bins == number].sum())

    def merge(self, other: "Losses") -> None:
        """Add what `other` has counted."""
        self.total.counts += other.total.counts
        for mine, theirs in ((self.photos, other.photos), (self.repaired, other.repaired)):
            for name, total in mine.items():
                total.counts += theirs[name].counts
        for sums, more in ((self.pixels, other.pixels), (self.wrong, other.wrong)):
            for name in sums:
                sums[name] += more[name]


def boundary_distance(truth: Mask) -> NDArray[np.float32]:
    """Pixels to the nearest pixel of another label, void counting as one: (H, W) float32; 1 beside a boundary."""
    distance = np.full(truth.shape, np.inf, dtype=np.float32)
    for label in np.unique(truth):
        inside = truth == label
        if not inside.all():  # or there is no boundary
            to_outside = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            distance[inside] = to_outside[inside]
    return distance


def repairs(mask: Mask, truth: Mask, distance: NDArray[np.float32]) -> dict[str, Mask]:
    """`mask` with one kind of error repaired, by name; where `truth` is void nothing counts."""
    unpainted = (mask == 0) | (mask == VOID)
    where = {
        "background": truth == 0,
        "objects": (truth > 0) & unpainted,
        "classes": (truth > 0) & ~unpainted,
        "boundaries": distance <= BOUNDARY,
    }
    return {name: np.where(repaired & (truth != VOID), truth, mask) for name, repaired in where.items()}


def photo_losses(photo: Photo, *, paint: Callable[[Photo], Mask], data: TaggedPhotos) -> Losses:
    """Errors of `paint(photo)`, scaled to the true mask's size."""
    truth = true_mask(photo, data)
    losses = Losses(len(data.classes) + 1)
    losses.add(scaled(paint(photo), truth), truth, len(photo.tags))
    return losses


def measured(paint: Callable[[Photo], Mask], data: TaggedPhotos, photos: tuple[Photo, ...]) -> Losses:
    """Errors of `paint` on all `photos`, in as many processes as there are cores."""
    total, workers = Losses(len(data.classes) + 1), cores()
    with processes(workers) as pool:
        work = partial(photo_losses, paint=paint, data=data)
        for losses in map_photos(work, photos, pool=pool, workers=workers):
            total.merge(losses)
    return total


def stages_of(layout: Layout, data: TaggedPhotos) -> Iterator[tuple[str, Callable[[Photo], Mask]]]:
    """The stages of a run that wrote masks, in order."""
    for stage in run_stages(read_description(layout).settings):
        if isinstance(stage, MaskStage) and stage.file(data.photos[0], layout.root).is_file():
            yield f"{stage.round}: {stage.name}", partial(stage.mask, run=layout.root, classes=data.classes)


@cache
def opened(model: Path) -> Segmenter:
    """The bundle, opened once in each process."""
    return Segmenter.load(model)


def bundle_mask(photo: Photo, *, model: Path, classes: tuple[str, ...], tags: bool) -> Mask:
    """A bundle's mask of a photo in labels of `classes`, restricted to the photo's tags if `tags`."""
    segmenter = opened(model)
    labels = segmenter.labels_of(photo.tags if tags else classes)
    mask = segmenter.predict(read_photo(photo.path)).mask(labels, tagged=tags)
    return truth_table(segmenter.classes, classes)[mask]


def show(console: Console, losses: dict[str, Losses], classes: tuple[str, ...]) -> None:
    """Print the tables."""
    table = Table("precision / recall", BACKGROUND, *classes)
    for stage, each in losses.items():
        pairs = zip(each.total.precision(), each.total.recall(), strict=True)
        table.add_row(stage, *(f"{precision:.0f} / {recall:.0f}" for precision, recall in pairs))
    console.print(table)
    _show_miou(console, "photos, mIoU", {stage: (each.total, each.photos) for stage, each in losses.items()})
    _show_miou(console, "repaired, mIoU", {stage: (each.total, each.repaired) for stage, each in losses.items()})
    table = Table("wrong pixels at a distance from the boundary", *DISTANCES)
    for stage, each in losses.items():
        shares = (f"{100 * each.wrong[name] / max(1, each.pixels[name]):.1f}%" for name in DISTANCES)
        table.add_row(stage, *shares)
    everything = next(iter(losses.values())).pixels
    table.add_row("all pixels", *(f"{100 * pixels / sum(everything.values()):.0f}%" for pixels in everything.values()))
    console.print(table)


def _show_miou(console: Console, title: str, rows: dict[str, tuple[Confusion, dict[str, Confusion]]]) -> None:
    """A table of the mIoU of all photos and of each group, by stage."""
    _, groups = next(iter(rows.values()))
    table = Table(title, "all as it is", *groups)
    for stage, (total, groups) in rows.items():
        table.add_row(stage, *(f"{each.miou():.1f}" for each in (total, *groups.values())))
    console.print(table)


def main(
    masks: Annotated[Path, typer.Argument(metavar="RUN|MODEL.onnx")],
    data: Path,
    split: Split,
    classes: Classes,
    every: Every = 1,
    tags: Annotated[bool, typer.Option("--tags", help="Pass each photo's tags to the bundle.")] = False,
) -> None:
    """Measure and print."""
    tagged = load(data, split=split, classes=classes.split(","))
    photos = tuple(photo for photo in tagged.photos if photo.mask is not None)[::every]
    if masks.is_dir():
        painters = dict(stages_of(Layout(masks), tagged))
    else:
        painters = {masks.name: partial(bundle_mask, model=masks, classes=tagged.classes, tags=tags)}
    losses = {name: measured(paint, tagged, photos) for name, paint in painters.items()}
    show(Console(width=120), losses, tagged.classes)


if __name__ == "__main__":
    command_of(main)()
