"""How far figures vary by chance: runs that differ in their seed alone, and whether each kept its best round.

    python -m benchmarks.seeds DATA RUN... --split train_small --val val --classes cat,cow,... [--ceilings OUT,...]

Prints the mIoU of each round's PixelNet on the photos of --val (one split, or several) that the runs did not learn
from, with mean and standard deviation over the runs; how far the kept round, which was chosen without true masks, is
below the best; and weak / full: the kept round over the best pass of the ceilings of `benchmarks.ceiling`, one per run
in the same order. With --half only every second photo is measured.
"""

from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.command import Classes, Split, command_of
from benchmarks.networks import Run, measure_ceiling, miou
from tagmask.scores import Evaluation
from training.datasets import load
from training.datasets.photos import TaggedPhotos


def main(
    data: Path,
    runs: list[Path],
    split: Split,
    val: Annotated[str, typer.Option(help="Comma-separated splits of the validation photos.")],
    classes: Classes,
    half: Annotated[bool, typer.Option("--half")] = False,
    ceilings: Annotated[str, typer.Option(help="Comma-separated folders.")] = "",
) -> None:
    """Print the table."""
    names = classes.split(",")
    learned = load(data, split=split, classes=names)
    ids = {photo.id for photo in learned.photos}
    splits = [load(data, split=each, classes=names) for each in val.split(",")]
    unseen = {photo.id: photo for each in splits for photo in each.photos if photo.id not in ids}
    photos = tuple(unseen.values())
    validation = replace(splits[0], photos=photos[1::2] if half else photos)
    full = [Path(folder) for folder in ceilings.split(",") if folder]
    columns = [
        run_figures(Run.read(folder, learned), ceiling, validation) for folder, ceiling in zip_longest(runs, full)
    ]
    table = Table(
        "", *(folder.name for folder in runs), "mean", "std", title=f"mIoU on {len(validation.photos)} photos"
    )
    for name in dict.fromkeys(name for column in columns for name in column):
        table.add_row(name, *_cells(name, [column.get(name) for column in columns]))
    Console(width=110).print(table)


def run_figures(run: Run, ceiling: Path | None, val: TaggedPhotos) -> dict[str, float]:
    """Figures of one run by name: mIoU 0..100 of each round on `val`, what its choice lost, and weak / full."""
    measured = {number: run.measure(number, val) for number in run.kept}
    kept = measured[max(number for number, kept in run.kept.items() if kept)]
    figures: dict[str, float] = {}
    for number, each in measured.items():
        figures |= _by_tags(f"round {number}", each)
    figures["kept round, below the best"] = max(map(miou, measured.values())) - miou(kept)
    if ceiling is not None:
        best = _by_tags("full masks, best pass", max(measure_ceiling(ceiling, val), key=miou))
        weak = _by_tags("weak / full", kept)
        ratios = (ours / theirs for ours, theirs in zip(weak.values(), best.values(), strict=True))
        figures |= best | dict(zip(weak, ratios, strict=True))
    return figures


def _by_tags(name: str, measured: Evaluation) -> dict[str, float]:
    return {f"{name}, no tags": miou(measured), f"{name}, tags": measured.with_tags.miou or 0.0}


def _cells(name: str, figures: list[float | None]) -> list[str]:
    """The figure of each run, their mean and standard deviation."""
    digits = 3 if name.startswith("weak / full") else 1
    known = [figure for figure in figures if figure is not None]
    row = [*figures, fmean(known), stdev(known) if len(known) > 1 else None]
    return ["" if figure is None else f"{figure:.{digits}f}" for figure in row]


if __name__ == "__main__":
    command_of(main)()
