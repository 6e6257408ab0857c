"""YOLO, https://docs.ultralytics.com/datasets/segment: images/<subset>/, labels/<subset>/ and data.yaml.

Read: the tags of a photo are the classes in its label file, which begin its lines; outlines are read as corrections
alone, boxes not at all. A line may be the number alone. The label file of images/train/1.jpg is labels/train/1.txt,
that of train/images/1.jpg is train/labels/1.txt, and that of a photo without a folder images/ is beside it. An empty
label file says that the photo shows nothing. Classes are named in data.yaml, or one per line in classes.txt.

Written: outlines. A line of a label file is one connected piece of a class: its number, which is the mask value less
one, then x and y of each corner as shares of width and height. A hole is cut in: the outline goes to it along a row of
pixels, around it, and back the same way. Corners are pixels of the piece, a quarter of a pixel in from their upper
left, so that tools that round and tools that truncate find the same pixel; `cv2.fillPoly` then gives the mask back
exactly. Names have no folders, as not all tools look into them, and no blanks: photo "my cat/1" is "my_cat_1".
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from tagmask import files
from tagmask.areas import Marks, Paint, outlined
from tagmask.classes import merge_tags
from tagmask.errors import DataError
from tagmask.formats.regions import Region
from tagmask.masks import BACKGROUND
from tagmask.photos import PHOTO_SUFFIXES
from tagmask.progress import Advance
from training.datasets.copies import copy_photo, flat_names
from training.datasets.exports import head
from training.datasets.folders import is_mask_folder, photo_files
from training.datasets.listing import Listing, read_text
from training.datasets.mask_regions import mask_size, regions
from training.datasets.photos import TaggedPhotos

Outline = NDArray[np.int32]
Point = tuple[int, int]

MAX_YAML_BYTES = 200_000
"""Largest list of class names that is read, in bytes; reading YAML takes time."""

_NAMES = ("data.yaml", "dataset.yaml", "*.yaml", "*.yml", "classes.txt", "*.names", "_darknet.labels", "*/classes.txt")
_LABELS = ("labels/*.txt", "labels/*/*.txt", "*/labels/*.txt", "images/*.txt", "obj_train_data/*.txt", "*.txt")
_LINE = re.compile(rb"\s*\d+(\.0+)?([ \t]+-?[\d.]+(e-?\d+)?){4,}[ \t]*\r?$", re.MULTILINE | re.IGNORECASE)
_NUMBERS = re.compile(rb"\s*\d{1,4}(\.0+)?([ \t]+-?[\d.]+)*[ \t]*\r?$", re.MULTILINE)
_NUMBER = re.compile(r"(\d{1,9})(\.0+)?")


class _TextLoader(yaml.BaseLoader):
    """Reads every value as text, as "no" is a name, and no mapping with two equal keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        found = super().construct_mapping(node, deep)
        if len(found) < len(node.value):
            raise yaml.YAMLError(f"two equal keys, {node.start_mark}")
        return found


def is_yolo(root: Path) -> bool:
    """Whether a label file, of the first in each place where they may be, begins as those of YOLO.

    In a folder labels/ it may also be empty or begin with any numbers, and beside its photo with any numbers.
    """
    first = (path.relative_to(root) for pattern in _LABELS for path in islice(sorted(root.glob(pattern)), 20))
    return any(_LINE.match(head(root / path)) or _is_bare(root / path, "labels" in path.parts) for path in first)


def _is_bare(path: Path, alone: bool) -> bool:
    """Whether a label file, `alone` in a folder of its own or else beside its photo, lacks coordinates."""
    if not path.is_file() or not (alone or any(path.with_suffix(each).is_file() for each in PHOTO_SUFFIXES)):
        return False
    return _NUMBERS.match(head(path)) is not None or (alone and path.stat().st_size == 0)


def read(root: Path, split: str | None) -> Listing:
    """Read all photos, or those of a split: a folder in images/ or around it, or a list of ids, splits/<split>.txt.

    Raises DataError for an unknown split, and where classes have no names.
    """
    listing = Listing(root)
    names = _read_names(root, listing)
    found = (path.relative_to(root) for path in photo_files(root))
    photos = [path for path in found if not any(map(is_mask_folder, path.parents))]
    splits = {path: _split(path) for path in photos}
    orphans = {path.relative_to(root) for path in root.rglob("*.txt") if "labels" in path.relative_to(root).parts}
    for path in photos:
        label = next((each for each in _label_paths(path) if (root / each).is_file()), path.with_suffix(".txt"))
        orphans.discard(label)
        if split not in splits.values() or split == splits[path]:
            tags = _tags(label, names, listing) if (root / label).is_file() else ()
            listing.add_listed(path.as_posix(), merge_tags(tags), path.as_posix())
    for path in sorted(each for each in orphans if each.name != "classes.txt"):
        listing.fault(path.as_posix(), "its photo is not found; add it or remove the label file")
    if split is not None and split not in splits.values():
        listing.keep_split(split, filter(None, splits.values()))
    return listing


def _split(photo: Path) -> str:
    """The folder around images/, or else that in it; "" for neither."""
    parts = photo.parts
    if "images" not in parts:
        return ""
    place = parts.index("images")
    return parts[place - 1] if place else parts[1] if len(parts) > 2 else ""


def _label_paths(photo: Path) -> Iterator[Path]:
    for place in range(len(photo.parts) - 1, -1, -1):
        if photo.parts[place] == "images":
            yield Path(*photo.parts[:place], "labels", *photo.parts[place + 1 :]).with_suffix(".txt")
    yield photo.with_suffix(".txt")


def _tags(path: Path, names: Mapping[int, tuple[str, ...]], listing: Listing) -> Iterator[str]:
    """The classes in a label file, background for an empty one."""
    try:
        text = read_text(listing.root / path)
    except DataError as fault:
        listing.fault(path.as_posix(), f"its tags are ignored: {str(fault).removeprefix(f'{listing.root / path}: ')}")
        return
    if not text.strip():
        yield BACKGROUND
    for number, line in enumerate(text.split("\n"), start=1):
        values = line.split()
        first = _NUMBER.fullmatch(values[0]) if len(values) == 1 or len(values) > 4 else None
        if first and int(first[1]) in names:
            yield from names[int(first[1])]
        elif first:
            why = f"class {first[1]} has no name; add the name, or correct the line"
            listing.fault(f"{path.as_posix()}:{number}", why)
        elif line.strip():
            listing.fault(
                f"{path.as_posix()}:{number}", "malformed line; write the number of a class, alone or with coordinates"
            )


def read_areas(root: Path, listing: Listing) -> Iterator[Marks]:
    """The outlines in each label file, which is called like its photo; boxes are not read.

    Raises DataError where classes have no names.
    """
    names = _read_names(root, listing)
    for path in sorted(root.rglob("*.txt")):
        label = path.relative_to(root)
        if not _LINE.match(head(path)):
            continue
        areas: list[tuple[str, Paint]] = []
        for number, line in enumerate(read_text(path).split("\n"), start=1):
            try:
                place, *corners = map(float, line.split() or ["0"])
                classes = names.get(int(place), ())
            except (ValueError, OverflowError):
                listing.fault(f"{label.as_posix()}:{number}", "malformed line; correct or remove it")
                continue
            if len(corners) > 4:
                areas += [(name, outlined(corners, shares=True)) for name in classes]
        if areas:
            image = Path(*("images" if part == "labels" else part for part in label.parts))
            yield Marks(image.with_suffix("").as_posix(), label.as_posix(), areas)


def _read_names(root: Path, listing: Listing) -> dict[int, tuple[str, ...]]:
    """The class of each number with a name; none for a name that cannot be that of a class, which is a fault."""
    for path in (path for pattern in _NAMES for path in sorted(root.glob(pattern))):
        if path.suffix in (".yaml", ".yml"):
            texts = _yaml_names(path)
        else:
            texts = dict(enumerate(read_text(path, MAX_YAML_BYTES).split("\n")))
        if names := {number: text for number, text in texts.items() if text.strip()}:
            return {number: listing.tags([name], path.name) for number, name in names.items()}
    raise DataError(
        f"{root}: has labels of YOLO, but no names of classes; add data.yaml, or classes.txt with one per line"
    )


def _yaml_names(path: Path) -> dict[int, str]:
    """`names` in a YAML file, a list or a mapping from numbers.

    Raises DataError for what is not YAML, and for two equal keys in a mapping, of which one would be lost.
    """
    try:
        document = yaml.load(read_text(path, MAX_YAML_BYTES), _TextLoader)
    except (yaml.YAMLError, RecursionError) as fault:
        raise DataError(f"{path}: not readable YAML ({' '.join(str(fault).split())}); correct it") from fault
    match document:
        case {"names": list(names)}:
            numbered = dict(enumerate(names))
        case {"names": dict(names)}:
            numbered = {int(number): name for number, name in names.items() if _NUMBER.fullmatch(str(number))}
        case _:
            return {}
    return {number: name for number, name in numbered.items() if isinstance(name, str)}


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
