"""What each stage and each round is worth: the paper-shaped table of a finished run on data with true masks.

    python -m benchmarks.stages RUN DATA --split train_small --val val --classes cat,cow,... [--ceiling OUT]

Printed are the mIoU of the training labels after each stage of each round; the first round's labels without RegionNet
and without saliency (every --every-th photo, DenseCRF on each variant); and the validation mIoU of each round's
PixelNet, without and with tags given, beside the ceiling of `benchmarks.ceiling`.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from training.networks.trainer import Trainer
from training.run.rounds import Run

from benchmarks.networks import measure_ceiling, measure_round
from tagmask.cores import cores
from tagmask.crf import dense_crf
from tagmask.masks import read_mask
from tagmask.photos import read_photo
from tagmask.progress import Silent
from tagmask.scores import Evaluation
from training.cli.train import stage_table
from training.config import TrainConfig
from training.datasets import load
from training.datasets.photos import Photo, TaggedPhotos
from training.evaluation.measure import truth_table
from training.evaluation.metrics import Confusion, Counts, confusion
from training.fitting import devices
from training.parallel import map_photos, processes
from training.run.description import read_description
from training.run.layout import Layout
from training.run.ledger import Ledger
from training.stages import work

VARIANTS = ("class maps", "class maps + CRF", "regions", "regions + CRF", "regions + saliency + CRF")


def variants(
    photo: Photo, *, layout: Layout, config: TrainConfig, classes: tuple[str, ...], mask_classes: tuple[str, ...]
) -> dict[str, Counts]:
    """Confusion of the first round's labels with stages left out, by name of the variant."""
    assert photo.mask is not None
    here = layout.round(1)
    pixels = read_photo(photo.path, config.long_side)
    truth = truth_table(mask_classes, classes)[read_mask(photo.mask)]
    maps = work.painted_class_maps(photo, layout)
    maps = maps / maps.sum(axis=0, keepdims=True)
    regions = work.painted_regions(photo, layout, here)
    refined = work.refined_regions(photo, layout, here)
    smoothed = [dense_crf(pixels, each, config.crf) for each in (maps, regions, refined)]
    labels = np.array(photo.labels(classes), dtype=np.uint8)
    each = (maps, smoothed[0], regions, smoothed[1], smoothed[2])
    return {
        name: confusion(labels[probabilities.argmax(axis=0)], truth, len(classes) + 1)
        for name, probabilities in zip(VARIANTS, each, strict=True)
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", required=True)
    parser.add_argument("--val", required=True)
    parser.add_argument("--classes", required=True)
    parser.add_argument("--ceiling", type=Path)
    parser.add_argument("--every", type=int, default=4)
    given = parser.parse_args()
    console = Console(width=110)
    classes = given.classes.split(",")
    data = load(given.data, split=given.split, classes=classes)
    val = load(given.data, split=given.val, classes=classes)
    layout = Layout(given.run)
    config = read_description(layout).settings
    workers = cores()
    trainer = Trainer(data, layout, config, None, devices.choose("cpu"))
    run = Run(trainer, workers, Ledger(layout.ledger), Silent())
    console.print(stage_table(run.ledger))
    console.print(_variant_table(run, data.photos[:: given.every]))
    console.print(_network_table(run, val, given.ceiling))


def _variant_table(run: Run, photos: tuple[Photo, ...]) -> Table:
    totals = {name: Confusion(len(run.trainer.data.classes) + 1) for name in VARIANTS}
    work = partial(
        variants,
        layout=run.layout,
        config=run.trainer.config,
        classes=run.trainer.data.classes,
        mask_classes=run.trainer.data.mask_classes,
    )
    with processes(run.workers) as pool:
        for counts in map_photos(work, photos, pool=pool, workers=run.workers):
            for name, total in totals.items():
                total.counts += counts[name]
    table = Table("round 1, stages left out", "mIoU", title=f"{len(photos)} training photos", title_justify="left")
    for name, total in totals.items():
        table.add_row(name, f"{total.miou():.1f}")
    return table


def _network_table(run: Run, val: TaggedPhotos, ceiling: Path | None) -> Table:
    table = Table("PixelNet", "no tags", "tags", title=f"{len(val.photos)} validation photos", title_justify="left")
    best = None
    for number in range(1, run.trainer.config.rounds + 1):
        if run.layout.round(number).localizer.is_file():
            figures = measure_round(run, number, val, "tags")
            decision = run.ledger.find(number, "decision")
            kept = "" if decision is None or decision["kept"] else " (dropped)"
            table.add_row(f"round {number}{kept}", *_figures(figures))
            best = figures.without_tags.miou if not kept else best
    if ceiling is not None:
        passes = measure_ceiling(ceiling, val)
        for number, figures in enumerate(passes, start=1):
            table.add_row(f"FULL MASKS, pass {number}", *_figures(figures))
        if best is not None and passes:
            top = max(figures.without_tags.miou or 0.0 for figures in passes)
            table.add_row("weak / full, its best pass", f"{best / top:.3f}", "")
    return table


def _figures(figures: Evaluation) -> tuple[str, str]:
    return f"{figures.without_tags.miou:.1f}", f"{figures.with_tags.miou:.1f}"


if __name__ == "__main__":
    main()
