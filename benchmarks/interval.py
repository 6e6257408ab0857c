"""How often the 95% interval that held-out corrections give holds the true mIoU of a model, and how wide it is.

    python -m benchmarks.interval DATA --split val --classes cat,cow,... [--model MODEL.onnx]

True masks are the corrections, and the mIoU over all photos of the split is taken as the true one. Photos are drawn
without replacement, 200 times for each number of them. Prints the share of draws whose interval holds the true mIoU,
and the mean and greatest distance from an end of the interval to the other, halved, in points.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.command import Classes, Split, command_of
from tagmask.cli.terminal import Bars
from tagmask.corrections import Correction
from tagmask.masks import read_mask
from tagmask.scores import Interval
from tagmask.segmenter import PRETRAINED, Segmenter
from training.datasets import load
from training.datasets.photos import Photo
from training.evaluation.corrected import PixelCounts, count_pixels, miou_interval, mious
from training.evaluation.measure import truth_table

DRAWS = 200
PHOTOS = (20, 30, 40, 60)


def main(
    data: Path,
    split: Split,
    classes: Classes = "cat,cow,dog,horse,person,sheep",
    model: Annotated[Path, typer.Option(show_default="the pretrained one")] = PRETRAINED,
) -> None:
    """Print the table."""
    segmenter = Segmenter.load(model)
    photos = load(data, split=split, classes=classes.split(",")).respelled(segmenter.classes)
    truths = truth_table(photos.mask_classes, segmenter.classes[1:])

    def corrected(photo: Photo) -> Photo:
        assert photo.mask is not None, f"{photo.id} has no true mask"
        return replace(photo, correction=Correction.of(truths[read_mask(photo.mask)], segmenter.classes))

    with Bars().stage("measuring", len(photos.photos)) as advance:
        counted = count_pixels(segmenter, list(map(corrected, photos.photos)), segmenter.classes[1:], advance)
    print("| photos | tags | mIoU of all | holds it | half width, mean | greatest |")
    print("| --- | --- | --- | --- | --- | --- |")
    for number in PHOTOS:
        for tags, pixels in zip(("without", "with"), counted, strict=True):
            true, drawn = float(mious(pixels.sum(axis=0))), intervals(pixels, number)
            holds = np.mean([each.low <= true <= each.high for each in drawn])
            half = np.array([(each.high - each.low) / 2 for each in drawn])
            print(f"| {number} | {tags} | {true:.1f} | {holds:.1%} | {half.mean():.1f} | {half.max():.1f} |")


def intervals(pixels: PixelCounts, photos: int) -> list[Interval]:
    """The interval of each draw of so many photos."""
    random = np.random.default_rng(1)
    return [miou_interval(pixels[random.choice(len(pixels), photos, replace=False)]) for _ in range(DRAWS)]


if __name__ == "__main__":
    command_of(main)()
