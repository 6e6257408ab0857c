"""How far figures vary by chance: runs that differ in their seed alone, and whether each kept its best round.

    python -m benchmarks.seeds DATA RUN... --split train_small --val val --classes cat,cow,... [--ceilings OUT...]

Printed are the validation mIoU of each round's PixelNet, their mean and standard deviation over the runs, what was lost
by the round that was kept without looking at true masks, and weak / full with the ceilings of `benchmarks.ceiling`, one
for each run in the same order.
"""

import argparse
import json
from pathlib import Path
from statistics import fmean, stdev

from rich.console import Console
from rich.table import Table

from benchmarks.networks import measure_round
from training import devices
from training.data import load
from training.data.photos import TaggedPhotos
from training.description import read_description
from training.layout import Layout
from training.ledger import Ledger
from training.networks import Trainer
from training.progress import Silent
from training.rounds import Run

Column = list[float | None]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--split", required=True)
    parser.add_argument("--val", required=True)
    parser.add_argument("--classes", required=True)
    parser.add_argument("--ceilings", type=Path, nargs="+", default=[])
    given = parser.parse_args()
    classes = given.classes.split(",")
    data = load(given.data, split=given.split, classes=classes)
    val = load(given.data, split=given.val, classes=classes)
    rows: dict[str, Column] = {}
    for number, folder in enumerate(given.runs):
        ceiling = given.ceilings[number] if number < len(given.ceilings) else None
        for name, figure in run_figures(folder, ceiling, data, val).items():
            rows.setdefault(name, [None] * len(given.runs))[number] = figure
    Console(width=110).print(_table(rows, [folder.name for folder in given.runs]))


def run_figures(folder: Path, ceiling: Path | None, data: TaggedPhotos, val: TaggedPhotos) -> dict[str, float]:
    """Figures of one run by name: mIoU 0..100 of each round on `val`, what its choice lost, and weak / full."""
    layout = Layout(folder)
    config = read_description(layout).settings
    run = Run(Trainer(data, layout, config, None, devices.choose("cpu")), 1, Ledger(layout.ledger), Silent())
    figures: dict[str, float] = {}
    by_round: list[float] = []
    kept = 0.0
    for number in range(1, config.rounds + 1):
        decision = run.ledger.find(number, "decision")
        if decision is None:
            break
        measured = measure_round(run, number, val, "tags")
        free, given = measured.without_tags.miou or 0.0, measured.with_tags.miou or 0.0
        figures |= {f"round {number}, no tags": free, f"round {number}, tags": given}
        by_round.append(free)
        kept = free if decision["kept"] else kept
    figures["kept round, below the best"] = max(by_round) - kept
    if ceiling is not None:
        told = [json.loads(path.read_text()) for path in sorted(ceiling.glob("round-*/val.json"))]
        figures["full masks, no tags"] = told[-1]["without_tags"]["miou"]
        figures["full masks, tags"] = told[-1]["with_tags"]["miou"]
        figures["weak / full"] = kept / figures["full masks, no tags"]
    return figures


def _table(rows: dict[str, Column], runs: list[str]) -> Table:
    table = Table("", *runs, "mean", "std", title="mIoU on validation photos", title_justify="left")
    for name, column in rows.items():
        digits = 3 if name == "weak / full" else 1
        known = [figure for figure in column if figure is not None]
        cells = ["" if figure is None else f"{figure:.{digits}f}" for figure in column]
        spread = f"{stdev(known):.{digits}f}" if len(known) > 1 else ""
        table.add_row(name, *cells, f"{fmean(known):.{digits}f}", spread)
    return table


if __name__ == "__main__":
    main()
