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
from tagmask.masks import read_mask
from training.datasets import load
from training.datasets.photos import Photo
from training.evaluation.measure import truth_table
from training.fitting import devices
from training.run.description import read_description
from training.run.layout import Layout
from training.stages.classifier import classifier_file
from training.stages.network import TrainingContext
from training.stages.pixelnet import PixelNetTraining


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
    options = parser.parse_args()
    os.environ["DO_NOT_TRACK"] = "1"

    classes = options.classes.split(",")
    data = load(options.data, split=options.split, classes=classes)
    val = load(options.data, split=options.val, classes=classes)
    weak, full = Layout(options.run), Layout(options.out)
    config = read_description(weak).settings
    classifier = classifier_file(full.root)
    if not classifier.is_file():
        classifier.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(classifier_file(weak.root), classifier)
    files.write_text(full.description, weak.description.read_text())
    context = TrainingContext(data, full.root, str(devices.choose("auto")))
    table = truth_table(data.mask_classes, data.classes)

    def true_mask(photo: Photo) -> np.ndarray:
        assert photo.mask is not None, f"{photo.id} has no true mask"
        return table[read_mask(photo.mask)]

    for number in range(1, (options.passes or config.rounds) + 1):
        PixelNetTraining.of(config, number).train_on(context, true_mask, true_mask if number > 1 else None)
        figures = measure_round(context, config, number, val, "full masks")
        print(f"FULL MASKS, pass {number}: val mIoU {figures.without_tags.miou:.2f} without tags, "
              f"{figures.with_tags.miou:.2f} with tags", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
