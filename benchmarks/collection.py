"""What a growing data set costs: drawn photos of 16x16 pixels from the service's inbox to the shards of a list.

    python -m benchmarks.collection --photos 100000 [--link] [--folder FOLDER]

A quarter, half and all of the photos are each collected in a new process, into a new workspace: "listing" reads the
source for the first time, "collection" lists it again and decodes, copies and records each photo, and "again" is a
second collection that finds nothing new. With `--link` photos are not decoded, and their copies are hard links, so that
what remains is the cost of the lists. Prints CPU seconds and, in µs, those per photo of the second collection; the peak
of resident memory after listing and at the end; and the size of the catalogue.
"""

import hashlib
import io
import json
import multiprocessing
import resource
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.command import command_of
from flows.collection.catalogue import Catalogue
from flows.collection.ingestion import Arrival, Content, Outcome
from flows.collection.lists import shards
from flows.collection.snapshots import snapshot
from flows.collection.source_list import SourceList
from flows.collection.sources import Source, read_sources
from flows.collection.update import Map, update
from flows.settings import FlowSettings
from flows.workspace import Workspace

TAGS = ("cat", "cow", "dog", "horse", "person", "sheep")
SIDE = 16
LINKS = 30_000
"""With as many again for their copies, a file has fewer than the 65,000 names that ext4 allows."""

STEPS = ("listing", "collection", "snapshot", "shards", "again")


def draw(numbers: range, inbox: Path, linked: bool) -> None:
    """Write a photo for each number, as the service's inbox stores it; if `linked`, LINKS of them are one file."""
    for index, number in enumerate(numbers):
        new = index % LINKS == 0 or not linked
        if new:
            pixels = np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
            data = io.BytesIO()
            Image.fromarray(pixels).save(data, "JPEG")
        name = hashlib.sha256(str(number).encode() if linked else data.getvalue()).hexdigest()
        photo = inbox / name[:2] / f"{name}.jpg"
        photo.parent.mkdir(parents=True, exist_ok=True)
        if new:
            photo.write_bytes(data.getvalue())
            file = photo
        else:
            photo.hardlink_to(file)
        record = {"image": photo.name, "tags": [TAGS[number % len(TAGS)]], "sha256": name, "media_type": "image/jpeg"}
        photo.with_suffix(".json").write_text(json.dumps(record))


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


def link(workspace: Workspace, shards: Iterable[tuple[Arrival, ...]]) -> Iterator[tuple[Outcome, ...]]:
    """What ingestion does with drawn photos, but for decoding and copying them."""
    for shard in shards:
        outcomes = []
        for arrival in shard:
            path = Path(arrival.path)
            copy = workspace.photos / path.parent.name / path.name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.hardlink_to(path)
            stat = path.stat()
            content = Content(path.stem, path.suffix, SIDE, SIDE, stat.st_size, stat.st_mtime_ns)
            outcomes.append(Outcome(arrival.path, arrival.tags, content))
        yield tuple(outcomes)


def collect(source: Path, root: Path, linked: bool) -> tuple[Meter, int, int]:
    """Collect `source` into a workspace at `root`: the steps, number of photos, and bytes of the catalogue."""
    settings, workspace, meter = FlowSettings(), Workspace(root), Meter()
    map_shards: Map = (lambda _, shards: link(workspace, shards)) if linked else map
    meter.done("start")
    with Catalogue(workspace) as catalogue, SourceList(workspace) as source_list:
        read_sources([Source(source)], catalogue, source_list)
    meter.done("listing")
    taken = update(workspace, [Source(source)], settings.tasks.shard_size, map_shards).added
    meter.done("collection")
    made = snapshot(workspace, settings.data)
    meter.done("snapshot")
    photos = sum(len(shard.photos) for shard in shards(made.training, settings.tasks.shard_size))
    meter.done("shards")
    again = update(workspace, [Source(source)], settings.tasks.shard_size, map_shards).added
    meter.done("again")
    if (photos, again) != (made.photos, 0):
        raise SystemExit(f"{photos} photos in shards, {made.photos} in the list, {again} taken again")
    return meter, taken, (workspace.data / "catalogue.sqlite").stat().st_size


def main(
    photos: int = 100_000,
    link: Annotated[bool, typer.Option("--link", help="Link photos instead of decoding and copying them.")] = False,
    folder: Annotated[Path | None, typer.Option(help="Where to draw and work.", show_default="system's")] = None,
) -> None:
    """Draw, measure and print the table."""
    table = Table("photos", *(f"{step} s" for step in STEPS), "µs again", "MiB listed", "MiB peak", "bytes a photo")
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        root, drawn = Path(temporary), 0
        for part in (4, 2, 1):
            draw(range(drawn, photos // part), root / "source", link)
            drawn = photos // part
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
                meter, taken, size = fresh.submit(collect, root / "source", root / f"workspace-{part}", link).result()
            table.add_row(
                f"{taken:,}",
                *(f"{meter.seconds[step]:.2f}" for step in STEPS),
                f"{meter.seconds['again'] / taken * 1e6:.1f}",
                f"{meter.peak['listing']:.0f}",
                f"{meter.peak['again']:.0f}",
                f"{size / taken:.0f}",
            )
            shutil.rmtree(root / f"workspace-{part}")
    Console(width=140).print(table)


if __name__ == "__main__":
    command_of(main)()
