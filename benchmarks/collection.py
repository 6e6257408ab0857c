"""What a growing data set costs: drawn photos of 16x16 pixels from the service's inbox to the shards of a list.

    python -m benchmarks.collection --photos 100000 [--folder FOLDER]

A quarter, half and all of the photos are each collected in a new process, into a new workspace: "listing" only reads
the source, "collection" lists, checks and records each photo, and "again" is a second collection that finds nothing
new. Prints CPU seconds, per photo those from collection to shards; the peak of resident memory after listing and at the
end; and the size of the catalogue.
"""

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
from typing import Annotated

import numpy as np
import typer
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.command import command_of
from flows.collection.lists import shards
from flows.collection.snapshots import snapshot
from flows.collection.sources import Source, read_sources
from flows.collection.update import update
from flows.settings import FlowSettings
from flows.workspace import Workspace

TAGS = ("cat", "cow", "dog", "horse", "person", "sheep")
STEPS = ("listing", "collection", "snapshot", "shards", "again")


def draw(numbers: range, inbox: Path) -> None:
    """Write a photo for each number, as the service's inbox stores it."""
    for number in numbers:
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        data = io.BytesIO()
        Image.fromarray(pixels).save(data, "JPEG")
        tag = TAGS[number % len(TAGS)]
        name = hashlib.sha256(data.getvalue()).hexdigest()
        folder = inbox / name[:2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.jpg").write_bytes(data.getvalue())
        record = {"image": f"{name}.jpg", "tags": [tag], "sha256": name, "media_type": "image/jpeg"}
        (folder / f"{name}.json").write_text(json.dumps(record))


class Meter:
    """CPU seconds of consecutive steps, and the peak of resident memory in MiB after each."""

    def __init__(self) -> None:
        self.start = time.process_time()
        self.seconds: dict[str, float] = {}
        self.peak: dict[str, float] = {}

    def done(self, step: str) -> None:
        """End this step, and begin the next one."""
        self.seconds[step] = time.process_time() - self.start
        self.peak[step] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        self.start = time.process_time()


def collect(source: Path, root: Path) -> tuple[Meter, int, int]:
    """Collect `source` into a workspace at `root`: the steps, number of photos, and bytes of the catalogue."""
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
    return meter, taken, (workspace.data / "catalogue.sqlite").stat().st_size


def main(
    photos: int = 100_000,
    folder: Annotated[Path | None, typer.Option(help="Where to draw and work.", show_default="system's")] = None,
) -> None:
    """Draw, measure and print the table."""
    table = Table("photos", *(f"{step} s" for step in STEPS), "ms a photo", "MiB listed", "MiB peak", "bytes a photo")
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        root, drawn = Path(temporary), 0
        for part in (4, 2, 1):
            draw(range(drawn, photos // part), root / "source")
            drawn = photos // part
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
                meter, taken, size = fresh.submit(collect, root / "source", root / f"workspace-{part}").result()
            table.add_row(
                f"{taken:,}",
                *(f"{meter.seconds[step]:.2f}" for step in STEPS),
                f"{sum(meter.seconds[step] for step in STEPS[1:4]) / taken * 1000:.3f}",
                f"{meter.peak['listing']:.0f}",
                f"{meter.peak['again']:.0f}",
                f"{size / taken:.0f}",
            )
            shutil.rmtree(root / f"workspace-{part}")
    Console(width=140).print(table)


if __name__ == "__main__":
    command_of(main)()
