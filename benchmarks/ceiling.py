"""The fully supervised ceiling: the same PixelNet, recipe and budget, trained on TRUE MASKS instead of mined labels.

    python -m benchmarks.ceiling RUN DATA --split train_small --val val --classes cat,cow,... --out OUT

RUN is a finished `tagmask train` run on the same data; the ceiling uses its settings, and starts from its tag
classifier. PixelNet trains as often (or --passes times) and as long as in RUN's rounds, each time on the true masks,
and is measured on --val after each pass, so the figures are the ceiling's own validation curve. Weak / full is RUN's
figure over the best of them. A stopped benchmark resumes.
"""

import os
import shutil
from functools import partial
from pathlib import Path

from benchmarks.command import Classes, Out, Split, Val, command_of
from benchmarks.networks import Run, true_mask
from tagmask import files
from training.datasets import load
from training.datasets.photos import TaggedPhotos
from training.fitting import devices
from training.run.layout import Layout
from training.stages.classifier import ClassifierTraining
from training.stages.pixelnet import PixelNetTraining


def main(run: Path, data: Path, split: Split, val: Val, classes: Classes, out: Out, passes: int | None = None) -> None:
    """Train and measure the ceiling."""
    learned, validation = (load(data, split=each, classes=classes.split(",")) for each in (split, val))
    train_ceiling(run, learned, validation, out, passes)


def train_ceiling(run: Path, learned: TaggedPhotos, val: TaggedPhotos, out: Path, passes: int | None = None) -> None:
    """Train on the true masks of `learned`, those of the finished run in the folder `run`, and measure each pass."""
    os.environ["DO_NOT_TRACK"] = "1"
    classifier = ClassifierTraining.weights_of(out)
    if not classifier.is_file():
        classifier.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ClassifierTraining.weights_of(run), classifier)
    files.write_text(Layout(out).description, Layout(run).description.read_text())
    full = Run.read(out, learned, str(devices.choose("auto")))
    truth = partial(true_mask, data=learned)
    for number in range(1, (full.config.rounds if passes is None else passes) + 1):
        PixelNetTraining.of(full.config, number).train_on(full.context, truth, truth if number > 1 else None)
        figures = full.measure(number, val, "full masks")
        print(
            f"FULL MASKS, pass {number}: val mIoU {figures.without_tags.miou:.2f} without tags, "
            f"{figures.with_tags.miou:.2f} with tags",
            flush=True,
        )


if __name__ == "__main__":
    command_of(main)()
