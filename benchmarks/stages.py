"""What each stage and each round is worth: the paper-shaped table of a finished run on data with true masks.

    python -m benchmarks.stages RUN DATA --split train_small --val val --classes cat,cow,... [--ceiling OUT]

Printed are the mIoU of the training labels after each stage of each round; the first round's labels without RegionNet
and without saliency (every --every-th photo, DenseCRF on each variant); and the validation mIoU of each round's
PixelNet, without and with tags given, beside the ceiling of `benchmarks.ceiling`.
"""

import argparse
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.networks import measure_ceiling, measure_round
from tagmask.cores import cores
from tagmask.crf import dense_crf
from tagmask.masks import read_mask
from tagmask.photos import read_photo
from tagmask.scores import Evaluation
from training.cli.train import stage_table
from training.config import TrainConfig
from training.datasets import load
from training.datasets.parallel import map_photos, processes
from training.datasets.photos import Photo, TaggedPhotos
from training.evaluation.measure import truth_table
from training.evaluation.metrics import Confusion, Counts, confusion
from training.run.description import read_description
from training.run.layout import Layout
from training.run.ledger import Ledger
from training.stages import class_maps, regions
from training.stages.base import strongest
from training.stages.network import TrainingContext
from training.stages.pixelnet import pixelnet_file
from training.stages.refinement import refined_regions

VARIANTS = ("class maps", "class maps + CRF", "regions", "regions + CRF", "regions + saliency + CRF")


def variants(
    photo: Photo, *, run: Path, config: TrainConfig, classes: tuple[str, ...], mask_classes: tuple[str, ...]
) -> dict[str, Counts]:
    """Confusion of the first round's labels with stages left out, by name of the variant."""
    assert photo.mask is not None
    pixels = read_photo(photo.path, config.long_side)
    truth = truth_table(mask_classes, classes)[read_mask(photo.mask)]
    maps = class_maps.label_strengths(photo, run)
    maps = maps / maps.sum(axis=0, keepdims=True)
    painted, refined = regions.paint(photo, run, 1), refined_regions(photo, run, 1)
    smoothed = [dense_crf(pixels, each, config.crf) for each in (maps, painted, refined)]
    each = (maps, smoothed[0], painted, smoothed[1], smoothed[2])
    return {
        name: confusion(strongest(probabilities, photo, classes), truth, len(classes) + 1)
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
    options = parser.parse_args()
    console = Console(width=110)
    classes = options.classes.split(",")
    data = load(options.data, split=options.split, classes=classes)
    val = load(options.data, split=options.val, classes=classes)
    layout = Layout(options.run)
    config, ledger = read_description(layout).settings, Ledger(layout.ledger)
    context = TrainingContext(data, layout.root, "cpu")
    console.print(stage_table(ledger))
    console.print(_variant_table(context, config, data.photos[:: options.every]))
    console.print(_network_table(context, config, ledger, val, options.ceiling))


def _variant_table(context: TrainingContext, config: TrainConfig, photos: tuple[Photo, ...]) -> Table:
    data, workers = context.data, cores()
    totals = {name: Confusion(len(data.classes) + 1) for name in VARIANTS}
    work = partial(variants, run=context.run, config=config, classes=data.classes, mask_classes=data.mask_classes)
    with processes(workers) as pool:
        for counts in map_photos(work, photos, pool=pool, workers=workers):
            for name, total in totals.items():
                total.counts += counts[name]
    table = Table("round 1, stages left out", "mIoU", title=f"{len(photos)} training photos", title_justify="left")
    for name, total in totals.items():
        table.add_row(name, f"{total.miou():.1f}")
    return table


def _network_table(
    context: TrainingContext, config: TrainConfig, ledger: Ledger, val: TaggedPhotos, ceiling: Path | None
) -> Table:
    table = Table("PixelNet", "no tags", "tags", title=f"{len(val.photos)} validation photos", title_justify="left")
    best = None
    for number in range(1, config.rounds + 1):
        if pixelnet_file(context.run, number).is_file():
            figures = measure_round(context, config, number, val, "tags")
            decision = ledger.find(number, "decision")
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
