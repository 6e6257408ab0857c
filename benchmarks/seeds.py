"""How far figures vary by chance: runs that differ in their seed alone, and whether each kept its best round.

    python -m benchmarks.seeds DATA RUN... --split train_small --val val --classes cat,cow,... [--ceilings OUT...]

Printed are the mIoU of each round's PixelNet on the photos of --val that the runs did not learn from, their mean and
standard deviation over the runs, what was lost by the round that was kept without looking at true masks, and weak /
full: the kept round over the best pass of the ceilings of `benchmarks.ceiling`, one for each run in the same order.
With --half every second photo is measured, the half that `benchmarks.frontier` reports on and does not choose by.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev

from rich.console import Console
from rich.table import Table

from benchmarks.networks import measure_ceiling, measure_round
from tagmask.scores import Evaluation
from training.datasets import load
from training.datasets.photos import TaggedPhotos
from training.run.description import read_description
from training.run.layout import Layout
from training.run.ledger import Ledger
from training.stages.network import TrainingContext

Column = list[float | None]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--split", required=True)
    parser.add_argument("--val", required=True, nargs="+", help="one split, or more together")
    parser.add_argument("--half", action="store_true")
    parser.add_argument("--classes", required=True)
    parser.add_argument("--ceilings", type=Path, nargs="+", default=[])
    options = parser.parse_args()
    classes = options.classes.split(",")
    data = load(options.data, split=options.split, classes=classes)
    learned = {photo.id for photo in data.photos}
    splits = [load(options.data, split=split, classes=classes) for split in options.val]
    unseen = {photo.id: photo for split in splits for photo in split.photos if photo.id not in learned}
    photos = tuple(unseen.values())
    val = replace(splits[0], photos=photos[1::2] if options.half else photos)
    rows: dict[str, Column] = {}
    for number, folder in enumerate(options.runs):
        ceiling = options.ceilings[number] if number < len(options.ceilings) else None
        for name, figure in run_figures(folder, ceiling, data, val).items():
            rows.setdefault(name, [None] * len(options.runs))[number] = figure
    Console(width=110).print(_table(rows, [folder.name for folder in options.runs], len(val.photos)))


def run_figures(folder: Path, ceiling: Path | None, data: TaggedPhotos, val: TaggedPhotos) -> dict[str, float]:
    """Figures of one run by name: mIoU 0..100 of each round on `val`, what its choice lost, and weak / full."""
    layout = Layout(folder)
    config = read_description(layout).settings
    context, ledger = TrainingContext(data, layout.root, "cpu"), Ledger(layout.ledger)
    figures: dict[str, float] = {}
    by_round: list[Evaluation] = []
    kept = 0
    for number in range(1, config.rounds + 1):
        decision = ledger.find(number, "decision")
        if decision is None:
            break
        by_round.append(measure_round(context, config, number, val, "tags"))
        figures |= _figures(f"round {number}", by_round[-1])
        kept = number if decision["kept"] else kept
    best = max(_miou(each) for each in by_round)
    figures["kept round, below the best"] = best - _miou(by_round[kept - 1])
    if ceiling is not None:
        full = max(measure_ceiling(ceiling, val), key=_miou)
        figures |= _figures("full masks, best pass", full)
        for tags in ("no tags", "tags"):
            figures[f"weak / full, {tags}"] = (
                figures[f"round {kept}, {tags}"] / figures[f"full masks, best pass, {tags}"]
            )
    return figures


def _figures(name: str, measured: Evaluation) -> dict[str, float]:
    return {f"{name}, no tags": _miou(measured), f"{name}, tags": measured.with_tags.miou or 0.0}


def _miou(measured: Evaluation) -> float:
    return measured.without_tags.miou or 0.0


def _table(rows: dict[str, Column], runs: list[str], photos: int) -> Table:
    table = Table("", *runs, "mean", "std", title=f"mIoU on {photos} photos", title_justify="left")
    for name, column in rows.items():
        digits = 3 if name.startswith("weak / full") else 1
        known = [figure for figure in column if figure is not None]
        cells = ["" if figure is None else f"{figure:.{digits}f}" for figure in column]
        spread = f"{stdev(known):.{digits}f}" if len(known) > 1 else ""
        table.add_row(name, *cells, f"{fmean(known):.{digits}f}", spread)
    return table


if __name__ == "__main__":
    main()
