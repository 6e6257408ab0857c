"""What a growing data set costs: N drawn photos of 16x16 pixels from an inbox of samples to the shards of a list.

    python -m benchmarks.collection --photos 100000 [--folder FOLDER] [--layout inbox|classes]

A quarter, half and all of the photos are each passed through by one fresh process, into a new workspace: "listing" is
reading the source alone, "collection" is listing, looking at each photo and recording it, "again" is a second
collection that finds nothing new. Printed are seconds of processor time, for a photo those from collection to shards;
the peak of resident memory after listing and in the end; and the size of the catalogue.
"""

import argparse
import hashlib
import io
import json
import multiprocessing
import resource
import shutil
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from flows.collection.lists import shards
from flows.collection.snapshots import snapshot
from flows.collection.sources import Source, read_sources
from flows.collection.update import update
from flows.settings import FlowSettings
from flows.workspace import Workspace

TAGS = ("cat", "cow", "dog", "horse", "person", "sheep")
STEPS = ("listing", "collection", "snapshot", "shards", "again")


def draw(numbers: range, root: Path, layout: str) -> None:
    """Write a photo for each number as the service's inbox or a folder a class holds it."""
    for number in numbers:
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        data = io.BytesIO()
        Image.fromarray(pixels).save(data, "JPEG")
        tag = TAGS[number % len(TAGS)]
        name = hashlib.sha256(data.getvalue()).hexdigest()
        folder = root / (name[:2] if layout == "inbox" else tag)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.jpg").write_bytes(data.getvalue())
        if layout == "inbox":
            record = {"image": f"{name}.jpg", "tags": [tag], "sha256": name, "media_type": "image/jpeg"}
            (folder / f"{name}.json").write_text(json.dumps(record))


class Meter:
    """Processor seconds of steps that follow one another, and the peak of resident memory in MiB after each."""

    def __init__(self) -> None:
        self.start = time.process_time()
        self.seconds: dict[str, float] = {}
        self.peak: dict[str, float] = {}

    def done(self, step: str) -> None:
        """The step ends here, and the next one begins."""
        self.seconds[step] = time.process_time() - self.start
        self.peak[step] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        self.start = time.process_time()


def passed(source: Path, root: Path) -> tuple[dict[str, float], dict[str, float], int, int]:
    """Seconds and peak memory of each step, number of photos, and size of the catalogue in bytes."""
    settings, workspace, meter = FlowSettings(), Workspace(root), Meter()
    meter.done("start")
    read_sources([Source(source)])
    meter.done("listing")
    taken = update(workspace, [Source(source)], settings.tasks.shard_size).added
    meter.done("collection")
    made = snapshot(workspace, settings.data)
    meter.done("snapshot")
    photos = sum(len(shard.photos) for shard in shards(made.training, settings.tasks.shard_size))
    meter.done("shards")
    again = update(workspace, [Source(source)], settings.tasks.shard_size).added
    meter.done("again")
    if (photos, again) != (made.photos, 0):
        raise SystemExit(f"{photos} photos in shards, {made.photos} in the list, {again} taken again")
    return meter.seconds, meter.peak, taken, (workspace.data / "catalogue.sqlite").stat().st_size


def main() -> None:
    """Draw, measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="where to draw and work; a temporary folder if absent")
    parser.add_argument("--layout", choices=("inbox", "classes"), default="inbox")
    options = parser.parse_args()
    table = Table("photos", *(f"{step} s" for step in STEPS), "ms a photo", "MiB listed", "MiB peak", "bytes a photo")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        root, drawn = Path(folder), 0
        for part in (4, 2, 1):
            draw(range(drawn, options.photos // part), root / "source", options.layout)
            drawn = options.photos // part
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
                seconds, peak, taken, size = fresh.submit(passed, root / "source", root / f"workspace-{part}").result()
            table.add_row(
                f"{taken:,}",
                *(f"{seconds[step]:.2f}" for step in STEPS),
                f"{sum(seconds[step] for step in STEPS[1:4]) / taken * 1000:.3f}",
                f"{peak['listing']:.0f}",
                f"{peak['again']:.0f}",
                f"{size / taken:.0f}",
            )
            shutil.rmtree(root / f"workspace-{part}")
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
