"""Label Studio, https://labelstud.io/guide/predictions: tasks.json with a prediction each, and interface.xml.

interface.xml is the labelling interface that the predictions fit. Photos stay where they are: tasks name them as local
files, by their path below the data set's folder, which Label Studio is to have as LOCAL_FILES_DOCUMENT_ROOT. A brush
result is all pixels of a class in a photo, in the run lengths of @thi.ng/rle-pack: a stream of bits of the photo's RGBA
bytes, most significant first, with the mask in all four channels, 0 or 255.

    header  32 bits: number of bytes; 5 bits: bits a value - 1; 4 x 4 bits: bits of each kind of length - 1
    run     1 bit: 1; 2 bits: kind of length, here always the first, of 16 bits; length - 1; 8 bits: value
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from tagmask import files
from tagmask.masks import PALETTE
from tagmask.progress import Advance
from training.datasets.photos import Photo, TaggedPhotos
from training.datasets.writers.entries import write_entries
from training.datasets.writers.regions import mask_size, regions, run_lengths

CHANNELS = 4
LONGEST = 1 << 16
"""Bytes of a run at most."""


def write(data: TaggedPhotos, out: Path, subset: str, advance: Advance) -> None:
    """Tasks are in order of photo ids; a project has no subsets."""
    labels = "".join(
        f'    <Label value={quoteattr(name)} background="#{bytes(PALETTE[label]).hex()}"/>\n'
        for label, name in enumerate(data.mask_classes)
        if label
    )
    image, brush = '  <Image name="image" value="$image"/>\n', '  <BrushLabels name="tag" toName="image">\n'
    files.write_text(out / "interface.xml", f"<View>\n{image}{brush}{labels}  </BrushLabels>\n</View>\n")
    with files.atomic_write(out / "tasks.json") as file:
        write_entries(file, _tasks(data, advance))
        file.write(b"\n")


def _tasks(data: TaggedPhotos, advance: Advance) -> Iterator[dict[str, Any]]:
    for photo in data.photos:
        address = f"/data/local-files/?d={quote(photo.path.relative_to(data.root).as_posix())}"
        results = list(_results(photo, data))
        yield {
            "data": {"image": address, "tags": list(photo.tags)},
            "predictions": [{"model_version": "tagmask", "result": results}],
        }
        advance(1)


def _results(photo: Photo, data: TaggedPhotos) -> Iterator[dict[str, Any]]:
    width, height = mask_size(photo)
    for region in regions(photo, data):
        yield {
            "id": hashlib.sha256(f"{photo.id}\0{region.name}".encode()).hexdigest()[:10],
            "type": "brushlabels",
            "from_name": "tag",
            "to_name": "image",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "value": {"format": "rle", "rle": brush_rle(region.pixels).tolist(), "brushlabels": [region.name]},
        }


def brush_rle(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The bytes of Label Studio's brush run lengths of `pixels`, (H, W) uint8, 0 or 1, with zero bits at the end."""
    lengths = CHANNELS * run_lengths(pixels)
    pieces = -(-lengths // LONGEST)  # none for the empty run that a first pixel of 1 begins with
    values = np.repeat(np.arange(lengths.size) % 2 * 255, pieces)
    parts = np.full(values.size, LONGEST)
    parts[np.cumsum(pieces)[pieces > 0] - 1] -= (pieces * LONGEST - lengths)[pieces > 0]
    runs = _bits(1 << 26 | (parts - 1) << 8 | values)[:, -27:]
    header = _bits(np.array([CHANNELS * pixels.size, 7 << 27 | 0xFFFF << 11])).reshape(-1)[:53]
    return np.packbits(np.concatenate((header, runs.reshape(-1))))


def _bits(codes: NDArray[np.int64]) -> NDArray[np.uint8]:
    """(N, 32) bits of N unsigned numbers, most significant first."""
    return np.unpackbits(codes.astype(">u4").view(np.uint8).reshape(-1, 4), axis=1)
