"""The fully supervised ceiling: the same PixelNet, recipe and budget, trained on TRUE MASKS instead of mined labels.

    python -m benchmarks.ceiling RUN DATA --split train_small --val val --classes cat,cow,... --out OUT

RUN is a finished `tagmask train` run of the same data: its settings and its tag classifier, from which PixelNet starts,
are taken. PixelNet trains as often and as long as in RUN's rounds, each time on the true masks; after each of these
passes it is measured on --val, so the figures are the ceiling's own validation curve. Weak / full is RUN's figure over
the best of them. A stopped benchmark goes on where it was.
"""

import argparse
import os
import shutil
from pathlib import Path

import numpy as np

from benchmarks.networks import measure_round
from tagmask import files
from tagmask.cores import cores
from tagmask.masks import read_mask
from tagmask.progress import Silent
from training.datasets import load
from training.datasets.photos import Photo
from training.evaluation.measure import truth_table
from training.fitting import devices
from training.networks.trainer import Trainer
from training.run.description import read_description
from training.run.layout import Layout
from training.run.ledger import Ledger
from training.run.plan import one_round
from training.run.rounds import Run


def main() -> None:
    """Train and measure the ceiling."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", required=True)
    parser.add_argument("--val", required=True)
    parser.add_argument("--classes", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--passes", type=int, help="how often PixelNet trains; default: RUN's rounds")
    given = parser.parse_args()
    os.environ["DO_NOT_TRACK"] = "1"

    classes = given.classes.split(",")
    data = load(given.data, split=given.split, classes=classes)
    val = load(given.data, split=given.val, classes=classes)
    weak, full = Layout(given.run), Layout(given.out)
    config = read_description(weak).settings
    if not full.round(0).localizer.is_file():
        full.round(0).localizer.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(weak.round(0).localizer, full.round(0).localizer)
    files.write_text(full.description, weak.description.read_text())
    trainer = Trainer(data, full, config, None, devices.choose("auto"))
    run = Run(trainer, cores(), Ledger(full.ledger), Silent())
    table = truth_table(data.mask_classes, data.classes)

    def true_mask(photo: Photo) -> np.ndarray:
        assert photo.mask is not None, f"{photo.id} has no true mask"
        return table[read_mask(photo.mask)]

    for number in range(1, (given.passes or config.rounds) + 1):
        step = next(step for step in one_round(config, number) if step.stage == "pixelnet")
        trainer.train_pixelnet(step, true_mask, true_mask if number > 1 else None)
        figures = measure_round(run, number, val, "full masks")
        print(f"FULL MASKS, pass {number}: val mIoU {figures.without_tags.miou:.2f} without tags, "
              f"{figures.with_tags.miou:.2f} with tags", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
