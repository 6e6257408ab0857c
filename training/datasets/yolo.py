"""YOLO's outlines, https://docs.ultralytics.com/datasets/segment: images/<subset>/, labels/<subset>/ and data.yaml.

A line of a label file is one connected piece of a class: its number, which is the mask value less one, then x and y of
each corner as shares of width and height. A hole is cut in: the outline goes to it along a row of pixels, around it,
and back the same way. Corners are pixels of the piece, a quarter of a pixel in from their upper left, so that tools
that round and tools that truncate find the same pixel; `cv2.fillPoly` then gives the mask back exactly. Names have no
folders, as not all tools look into them, and no blanks: photo "my cat/1" is "my_cat_1".
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tagmask import files
from tagmask.formats.regions import Region
from tagmask.progress import Advance
from training.datasets.copies import copy_photo, flat_names
from training.datasets.mask_regions import mask_size, regions
from training.datasets.photos import TaggedPhotos

Outline = NDArray[np.int32]
Point = tuple[int, int]


def write(data: TaggedPhotos, out: Path, subset: str, advance: Advance) -> None:
    """data.yaml names the existing subsets, and "train" in place of a missing "val", as YOLO requires both."""
    names = flat_names(data.photos)
    for photo in data.photos:
        copy_photo(photo, out / "images" / subset, names[photo.id])
        lines = (line for region in regions(photo, data) for line in _lines(region, mask_size(photo)))
        files.write_text(out / "labels" / subset / f"{names[photo.id]}.txt", "".join(lines))
        advance(1)
    subsets = {subset, *(path.name for path in (out / "labels").iterdir() if path.is_dir())}
    parts = {name: name for name in sorted(subsets)}
    for needed in ("train", "val"):
        parts.setdefault(needed, "train" if "train" in subsets else min(subsets))
    text = "".join(f"{json.dumps(name)}: {json.dumps(f'images/{part}')}\n" for name, part in parts.items())
    text += "names:\n" + "".join(
        f"  {label}: {json.dumps(name, ensure_ascii=False)}\n" for label, name in enumerate(data.mask_classes[1:])
    )
    files.write_text(out / "data.yaml", text)


def _lines(region: Region, size: tuple[int, int]) -> Iterator[str]:
    for outline in find_outlines(region.plane):
        corners = np.concatenate((outline, outline[-1:].repeat(max(0, 3 - len(outline)), axis=0)))  # three at least
        shares = (corners + 0.25) / size
        yield f"{region.label - 1} {' '.join(f'{share:.6f}' for share in shares.reshape(-1))}\n"


def find_outlines(pixels: NDArray[np.uint8]) -> Iterator[Outline]:
    """The outline of each 8-connected piece of `pixels`, (H, W) uint8, 0 or 1: (N, 2) corners as x, y of its pixels."""
    contours, tree = cv2.findContours(pixels, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    rings: list[Outline] = [np.asarray(contour[:, 0], dtype=np.int32) for contour in contours]
    parents: list[int] = tree[0, :, 3].tolist() if rings else []
    holes: dict[int, list[Outline]] = defaultdict(list)
    for ring, parent in zip(rings, parents, strict=True):
        holes[parent].append(ring)
    for index, ring in enumerate(rings):
        if parents[index] < 0:
            yield _corners(_with_holes(ring, holes[index], pixels))


def _with_holes(outline: Outline, holes: list[Outline], pixels: NDArray[np.uint8]) -> Outline:
    """`outline` with a way to each hole and back.

    From its leftmost pixel a hole is reached along the row, which begins at a pixel of the outline or of a hole further
    left: all are reached in the end.
    """
    ways: dict[Point, list[list[Point]]] = defaultdict(list)
    for hole in holes:
        leftmost = np.roll(hole, -int(hole[:, 0].argmin()), axis=0)
        x, y = leftmost[0].tolist()
        gaps = np.flatnonzero(pixels[y, :x] == 0)
        begin = (int(gaps[-1]) + 1 if gaps.size else 0, y)
        ways[begin].append([*_points(leftmost), (x, y), begin])
    whole: list[Point] = []
    waiting = [iter(_points(outline))]
    while waiting:
        if (point := next(waiting[-1], None)) is None:
            waiting.pop()
        else:
            whole.append(point)
            waiting += map(iter, ways.pop(point, ()))
    return np.array(whole, dtype=np.int32)


def _points(ring: Outline) -> list[Point]:
    return [(x, y) for x, y in ring.tolist()]


def _corners(outline: Outline) -> Outline:
    """`outline` without the pixels at which it goes straight on."""
    before, after = outline - np.roll(outline, 1, axis=0), np.roll(outline, -1, axis=0) - outline
    turns = (before != after).any(axis=1)
    return outline[turns] if turns.any() else outline[:1]
