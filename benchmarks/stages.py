"""What each stage and each round contributes: the table of the paper, for a finished run on data with true masks.

    python -m benchmarks.stages RUN DATA --split train_small --val val --classes cat,cow,... [--ceiling OUT]

Prints the mIoU of the training labels after each stage of each round; the first round's labels without RegionNet and
without refinement (every --every-th photo, DenseCRF on each variant); and the validation mIoU of each round's PixelNet,
without and with tags, beside the ceiling of `benchmarks.ceiling`.
"""

from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.command import Classes, Every, Split, Val, command_of
from benchmarks.networks import Run, measure_ceiling, miou, scaled, true_mask
from tagmask.cores import cores
from tagmask.crf import dense_crf
from tagmask.photos import read_photo
from tagmask.scores import Evaluation
from training.cli.train import stage_table
from training.config import TrainConfig
from training.datasets import load
from training.datasets.parallel import map_photos, processes
from training.datasets.photos import Photo, TaggedPhotos
from training.evaluation.metrics import Confusion
from training.stages import class_maps, refinement, regions
from training.stages.base import strongest

VARIANTS = ("class maps", "class maps + CRF", "regions", "regions + CRF", "regions + evidence + CRF")


def variants(photo: Photo, *, run: Path, config: TrainConfig, data: TaggedPhotos) -> dict[str, Confusion]:
    """Confusion of the first round's labels with stages left out, by name of the variant."""
    pixels, truth = read_photo(photo.path, config.long_side), true_mask(photo, data)
    maps = class_maps.label_strengths(photo, run)
    maps = maps / maps.sum(axis=0, keepdims=True)
    painted, refined = regions.paint(photo, run, 1), refinement.paint(photo, run, 1)
    smoothed = [dense_crf(pixels, each, config.crf) for each in (maps, painted, refined)]
    totals = {name: Confusion(len(data.classes) + 1) for name in VARIANTS}
    each = (maps, smoothed[0], painted, smoothed[1], smoothed[2])
    for total, probabilities in zip(totals.values(), each, strict=True):
        mask = strongest(probabilities, photo, data.classes)
        total.add(scaled(mask, truth), truth)
    return totals


def main(
    run: Path, data: Path, split: Split, val: Val, classes: Classes, ceiling: Path | None = None, every: Every = 4
) -> None:
    """Print the tables."""
    console = Console(width=110)
    weak = Run.read(run, load(data, split=split, classes=classes.split(",")))
    console.print(stage_table(weak.ledger))
    console.print(_variant_table(weak, every))
    console.print(_network_table(weak, load(data, split=val, classes=classes.split(",")), ceiling))


def _variant_table(run: Run, every: int) -> Table:
    data, workers = run.context.data, cores()
    photos = data.photos[::every]
    totals = {name: Confusion(len(data.classes) + 1) for name in VARIANTS}
    work = partial(variants, run=run.context.run, config=run.config, data=data)
    with processes(workers) as pool:
        for counted in map_photos(work, photos, pool=pool, workers=workers):
            for name, total in totals.items():
                total.counts += counted[name].counts
    table = Table("round 1, stages left out", "mIoU", title=f"{len(photos)} training photos", title_justify="left")
    for name, total in totals.items():
        table.add_row(name, f"{total.miou():.1f}")
    return table


def _network_table(run: Run, val: TaggedPhotos, ceiling: Path | None) -> Table:
    table = Table("PixelNet", "no tags", "tags", title=f"{len(val.photos)} validation photos", title_justify="left")
    best = 0.0
    for number, kept in run.kept.items():
        figures = run.measure(number, val)
        table.add_row(f"round {number}{'' if kept else ' (dropped)'}", *_figures(figures))
        best = miou(figures) if kept else best
    passes = measure_ceiling(ceiling, val) if ceiling else []
    for number, figures in enumerate(passes, start=1):
        table.add_row(f"FULL MASKS, pass {number}", *_figures(figures))
    if passes:
        table.add_row("weak / full, its best pass", f"{best / max(map(miou, passes)):.3f}", "")
    return table


def _figures(figures: Evaluation) -> tuple[str, str]:
    return f"{figures.without_tags.miou:.1f}", f"{figures.with_tags.miou:.1f}"


if __name__ == "__main__":
    command_of(main)()
