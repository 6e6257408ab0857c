"""Large photos in tiles: accuracy of photos that are glued to large ones, and the time and memory of one large photo.

    python -m benchmarks.tiles MODEL DATA --val val --side 6 --large 3
    python -m benchmarks.tiles MODEL DATA --val val --megapixels 200

DATA has photos of one size, with true masks; --side 6 glues them by six times six. Prints mIoU, without tags, and CPU
time, of the photos as they are, and of the glued ones without tiles and with tiles of half, once and twice the photos'
side. With --megapixels the photos are repeated in one JPEG of that size, and `tagmask segment` is measured on it,
without tiles and with tiles of once and four times their side.
"""

import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.command import Val, command_of
from benchmarks.cost import run_tagmask
from tagmask.masks import read_mask
from tagmask.photos import read_photo
from tagmask.segmenter import Segmenter
from training.datasets import load
from training.datasets.photos import TaggedPhotos
from training.evaluation.measure import truth_table
from training.evaluation.metrics import Confusion

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class TruePhoto:
    """A photo (H, W, 3) uint8 RGB with its true mask (H, W) uint8."""

    pixels: Pixels
    truth: Pixels


def main(
    model: Annotated[Path, typer.Argument(help="A bundle, model.onnx.", metavar="MODEL")],
    data: Annotated[Path, typer.Argument(help="A data set with true masks.", metavar="DATA")],
    val: Val = "val",
    side: Annotated[int, typer.Option(help="Photos along each side of a large one.", metavar="N")] = 6,
    large: Annotated[int, typer.Option(help="Number of large photos.", metavar="N")] = 3,
    megapixels: Annotated[int | None, typer.Option(help="Measure time and memory of one photo of this size.")] = None,
) -> None:
    """Print the table."""
    with Segmenter.load(model) as segmenter:
        photos = list(read(load(data, split=val).respelled(segmenter.classes), segmenter.classes))
        length = max(photos[0].truth.shape)
        if megapixels is None:
            table = accuracy(segmenter, photos[: large * side**2], side, [length // 2, length, 2 * length])
        else:
            table = cost(model, photos, megapixels, [length, 4 * length])
    Console().print(table)


def read(data: TaggedPhotos, classes: Sequence[str]) -> Iterator[TruePhoto]:
    """The photos of `data` that have a true mask."""
    values = truth_table(data.mask_classes, classes[1:])
    for photo in data.photos:
        if photo.mask is not None:
            yield TruePhoto(read_photo(photo.path), values[read_mask(photo.mask)])


def glue(photos: Sequence[TruePhoto], rows: int, columns: int) -> TruePhoto:
    """One photo of `rows` x `columns` photos of one size, repeated from the first where they are too few."""
    chosen = [photos[index % len(photos)] for index in range(rows * columns)]
    lines = [chosen[start : start + columns] for start in range(0, len(chosen), columns)]
    pixels = np.concatenate([np.concatenate([photo.pixels for photo in line], axis=1) for line in lines])
    truth = np.concatenate([np.concatenate([photo.truth for photo in line], axis=1) for line in lines])
    return TruePhoto(pixels, truth)


def accuracy(segmenter: Segmenter, photos: Sequence[TruePhoto], side: int, tiles: Sequence[int]) -> Table:
    """mIoU and CPU time, without tiles and with each of `tiles`."""
    starts = range(0, len(photos), side**2)
    large = [glue(photos[start : start + side**2], side, side) for start in starts]
    table = Table("photos", "tile", "mIoU", "CPU s a photo")
    for name, chosen, tile in [("as they are", photos, 0), *(("glued", large, tile) for tile in (0, *tiles))]:
        total, begun = Confusion(len(segmenter.classes)), time.process_time()
        for photo in chosen:
            total.add(segmenter.segment(photo.pixels, tile=tile).mask, photo.truth)
        seconds = (time.process_time() - begun) / len(chosen)
        table.add_row(f"{len(chosen)} {name}", str(tile or "-"), f"{total.miou():.2f}", f"{seconds:.2f}")
    return table


def cost(model: Path, photos: Sequence[TruePhoto], megapixels: int, tiles: Sequence[int]) -> Table:
    """Time and memory of `tagmask segment` for one photo, without tiles and with each of `tiles`."""
    table = Table("size", "tile", "seconds", "CPU s", "peak MiB")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photo.jpg"
        # in a process of its own, as the peak that Linux tells of a child is at least that of its parent
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            height, width = process.submit(write_large, photos, megapixels, path).result()
        for tile in (0, *tiles):
            spent = run_tagmask(
                "segment", str(path), "--model", str(model), "--out", folder, "--tile", str(tile),
                "--max-pixels", str(height * width),
            )  # fmt: skip
            figures = (spent.wall, spent.cpu, spent.peak)
            table.add_row(f"{width}x{height}", str(tile or "-"), *(f"{figure:.0f}" for figure in figures))
    return table


def write_large(photos: Sequence[TruePhoto], megapixels: int, path: Path) -> tuple[int, int]:
    """Write `photos`, repeated, as one JPEG of about `megapixels`; returns its size (H, W)."""
    height, width = photos[0].truth.shape
    columns = round((megapixels * 1e6) ** 0.5 / width)
    pixels = glue(photos, round(megapixels * 1e6 / (columns * width * height)), columns).pixels
    Image.fromarray(pixels).save(path, quality=90)
    return pixels.shape[0], pixels.shape[1]


if __name__ == "__main__":
    command_of(main)()
