"""What accuracy costs at inference: mIoU and CPU time of bundles by input size.

    python -m benchmarks.frontier DATA MODEL... --split val --classes cat,cow,... [--sides 240 320 400 480]

Every second photo is for choosing by, the others for reporting. CPU time is the network's on one thread, a photo.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tagmask.bundle import read_bundle
from tagmask.photos import read_photo
from tagmask.segmenter import Segmenter
from training.datasets import load
from training.datasets.photos import TaggedPhotos
from training.evaluation.evaluate import evaluate


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--split", required=True)
    parser.add_argument("--classes", required=True)
    parser.add_argument("--sides", type=int, nargs="+", default=(240, 320, 400, 480, 560))
    options = parser.parse_args()
    classes = options.classes.split(",")
    data = load(options.data, split=options.split, classes=classes)
    halves = [replace(data, photos=data.photos[start::2]) for start in (0, 1)]
    table = Table(title="mIoU, no tags / tags given", title_justify="left")
    for column in ("backbone", "long side", "CPU ms", "to choose by", "to report"):
        table.add_column(column, justify="right")
    for model in options.models:
        bundle = read_bundle(model)
        for side in options.sides:
            metadata = bundle.metadata.model_copy(update={"working_size": side})
            segmenter = Segmenter(replace(bundle, metadata=metadata), device="cpu", threads=1)
            figures = (evaluate(segmenter, half, classes=classes) for half in halves)
            cells = [f"{each.without_tags.miou:.1f} / {each.with_tags.miou:.1f}" for each in figures]
            table.add_row(metadata.backbone, str(side), f"{cpu_milliseconds(segmenter, data):.0f}", *cells)
    Console(width=110).print(table)


def cpu_milliseconds(segmenter: Segmenter, data: TaggedPhotos, photos: int = 40) -> float:
    """CPU time of scaling and the network, a photo, over the first `photos`."""
    pixels = [read_photo(photo.path) for photo in data.photos[:photos]]
    begun = time.process_time()
    for each in pixels:
        segmenter.predict(each)
    return 1000 * (time.process_time() - begun) / len(pixels)


if __name__ == "__main__":
    main()
