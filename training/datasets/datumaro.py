"""Datumaro's own format, which CVAT exports too: annotations/<split>.json.

https://open-edge-platform.github.io/datumaro/stable/docs/data-formats/formats/datumaro.html

Read: the tags of a photo are the labels of its annotations of any kind; polygons and masks are read as corrections
alone. Photos are in images/<split>/ or images/.

Written: with the photos in images/<subset>/. A mask is all pixels of a class in a photo. Labels are the classes without
background, so a label's number is the mask value less one.
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

from tagmask.areas import Marks, Paint, outlined, runs
from tagmask.errors import DataError
from tagmask.files import atomic_write
from tagmask.formats.coco import coco_rle
from tagmask.progress import Advance
from training.datasets.copies import copy_photo
from training.datasets.exports import Lists, json_line, plain_id, read_json, write_json_array
from training.datasets.listing import Listing
from training.datasets.mask_regions import mask_size, regions
from training.datasets.paths import path_fault
from training.datasets.photos import TaggedPhotos

LISTS = Lists(
    ("annotations/*.json",),
    re.compile(rb'\s*\{.*"categories"\s*:\s*\{', re.DOTALL),
    "no .json in its annotations/; add Datumaro's file, or name it",
)
_UNNEEDED = ("points", "rle", "attributes", "attr")


def read(root: Path, split: str | None) -> Listing:
    """Read the file `root`, or all in a folder's annotations/.

    A split is the name of a file, or else a list of ids, splits/<split>.txt. Raises DataError for an unknown split, a
    folder without such files, or a file without the keys of Datumaro.
    """
    listing, files = LISTS.open(root)
    named = [path for path in files if path.stem == split]
    for path in named or files:
        _read(path, listing)
    if split is not None and not named:
        listing.keep_split(split, (path.stem for path in files))
    return listing


def _read(path: Path, listing: Listing) -> None:
    names, items = _document(read_json(path, _UNNEEDED), path)
    file = path.relative_to(listing.root).as_posix()
    for index, item in enumerate(items):
        where = f"{file}: items[{index}]"
        match item:
            case {"id": str() | int() as name, "annotations": list(annotations)}:
                tags = listing.tags(_labels(annotations, names, where, listing), where)
                listing.add_listed(_image(item, str(name)), tags, where, (f"images/{path.stem}",))
            case _:
                listing.fault(where, "malformed, id and annotations are required; correct or remove it")


def _document(document: Any, path: Path) -> tuple[list[str], list[Any]]:
    """The names of labels, and the items. Raises DataError for a document without them."""
    match document:
        case {"categories": {"label": {"labels": list(labels)}}, "items": list(items)}:
            return [str(label.get("name", "")) if isinstance(label, dict) else "" for label in labels], items
    raise DataError(f"{path}: not Datumaro's, which has categories of labels, and items; export it again")


def _image(item: dict[str, Any], name: str) -> str:
    """The path of the photo below images/; if it leads elsewhere, as for photos not saved, the id with its suffix."""
    match item:
        case {"image": {"path": str(path)}} | {"media": {"path": str(path)}} if path:
            return name + PurePath(path).suffix if path_fault(path) else path
    return f"{name}.jpg"


def _labels(annotations: list[Any], names: list[str], where: str, listing: Listing) -> set[str]:
    labels = set()
    for index, annotation in enumerate(annotations):
        match annotation:
            case {"label_id": None} | {"type": "caption"}:
                pass
            case {"label_id": label} if isinstance(number := plain_id(label), int) and 0 <= number < len(names):
                labels.add(names[number])
            case _:
                listing.fault(f"{where}.annotations[{index}]", "unknown label_id; correct or remove it")
    return labels


def read_areas(root: Path, listing: Listing) -> Iterator[Marks]:
    """The polygons and masks of each item in the files that `read` reads.

    Raises DataError as `read` does.
    """
    for path in LISTS.open(root)[1]:
        names, items = _document(read_json(path), path)
        for index, item in enumerate(items):
            where = f"{path.name}: items[{index}]"
            match item:
                case {"id": str() | int() as name, "annotations": list(annotations)}:
                    areas = [area for each in annotations if (area := _area(each, names))]
                    if areas:
                        yield Marks(_image(item, str(name)), where, areas, _size(item))
                case _:
                    listing.fault(where, "malformed, id and annotations are required; correct or remove it")


def _area(annotation: Any, names: list[str]) -> tuple[str, Paint] | None:
    match annotation:
        case {"label_id": int(label), "type": "polygon", "points": list(points)} if 0 <= label < len(names):
            return names[label], outlined(points)
        case {"label_id": int(label), "rle": {"counts": str() | list() as counts}} if 0 <= label < len(names):
            return names[label], runs(counts)
    return None


def _size(item: dict[str, Any]) -> tuple[int, int] | None:
    match item:
        case {"image": {"size": [int(height), int(width)]}} | {"media": {"size": [int(height), int(width)]}}:
            return height, width
    return None


def write(data: TaggedPhotos, out: Path, subset: str, advance: Advance) -> None:
    """Items are in order of photo ids, which are theirs too."""
    labels = [{"name": name, "parent": "", "attributes": []} for name in data.mask_classes[1:]]
    categories = {"label": {"labels": labels, "label_groups": [], "attributes": []}}
    with atomic_write(out / "annotations" / f"{subset}.json") as file:
        file.write(b'{"dm_format_version":"1.0","media_type":2,"infos":{},\n"categories":')  # 2: images
        file.write(json_line(categories) + b',\n"items":')
        write_json_array(file, _items(data, out / "images" / subset, advance))
        file.write(b"}\n")


def _items(data: TaggedPhotos, images: Path, advance: Advance) -> Iterator[dict[str, Any]]:
    for photo in data.photos:
        width, height = mask_size(photo)
        copy = images / photo.id
        path = copy.with_name(copy_photo(photo, copy.parent, copy.name)).relative_to(images).as_posix()
        annotations = [
            {
                "id": number,
                "type": "mask",
                "attributes": {},
                "group": 0,
                "label_id": region.label - 1,
                "rle": coco_rle(region.plane),
                "z_order": 0,
            }
            for number, region in enumerate(regions(photo, data))
        ]
        yield {"id": photo.id, "annotations": annotations, "image": {"path": path, "size": [height, width]}}
        advance(1)
