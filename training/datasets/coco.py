"""COCO (Lin et al., ECCV 2014, https://cocodataset.org/#format-data).

Read: the tags of a photo are those of its annotations; outlines and run lengths are read as corrections alone.

    annotations/instances_<split>.json   photos in <split>/, images/<split>/ or images/ beside annotations/
    <split>/_annotations.coco.json       photos beside it
    any other .json                      photos below its folder, or in its images/

Written: annotations/instances_<subset>.json. An annotation is all pixels of a class in a photo, as compressed run
lengths, which keep holes and parts exactly. Category ids are mask values. Photos are not copied: a `file_name` is a
path below the data set's folder, which is the folder of images that tools ask for.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tagmask.areas import Marks, Paint, outlined, runs, united
from tagmask.errors import DataError
from tagmask.files import atomic_write
from tagmask.formats.coco import CocoObject, annotation, categories, coco_rle
from tagmask.progress import Advance
from tagmask.wording import count
from training.datasets.exports import Lists, json_line, plain_id, read_json, write_json_array
from training.datasets.listing import Listing
from training.datasets.mask_regions import mask_size, regions
from training.datasets.photos import TaggedPhotos

LISTS = Lists(
    ("*.json", "annotations/*.json", "*/_annotations.coco.json"),
    re.compile(rb'(?!.*"categories"\s*:\s*\{)\s*\{.*"((images|categories)"\s*:\s*\[|image_id")', re.DOTALL),
    "no .json in it or in its annotations/; add COCO's file, or name it",
)
_NOT_COCO = "{}: not COCO, which has lists of images, annotations and categories; export it again"
_UNNEEDED = ("segmentation", "keypoints", "bbox", "caption", "licenses", "info")


def read(root: Path, split: str | None) -> Listing:
    """Read the file `root`, or all in a folder; where some are called instances_…, only these.

    A split is part of a file's name, or else a list of ids, splits/<split>.txt. Raises DataError for an unknown split,
    a folder without such files, or a file without the keys of COCO.
    """
    listing, files = _open(root)
    splits = {path: _split(path) for path in files}
    named = [path for path in files if splits[path] == split]
    for path in named or files:
        _read(path, splits[path], listing)
    if split is not None and not named:
        listing.keep_split(split, splits.values())
    return listing


def _open(root: Path) -> tuple[Listing, list[Path]]:
    listing, files = LISTS.open(root)
    return listing, [path for path in files if path.name.startswith("instances_")] or files


def read_areas(root: Path, listing: Listing) -> Iterator[Marks]:
    """The outlines and run lengths of each image in the files that `read` reads; faults for annotations without them.

    Raises DataError as `read` does.
    """
    for path in _open(root)[1]:
        match read_json(path):
            case {"images": list(images), "annotations": list(annotations), "categories": list(categories)}:
                pass
            case _:
                raise DataError(_NOT_COCO.format(path))
        names = _names(categories, path.name, listing)
        areas: dict[int | str, list[tuple[str, Paint]]] = {}
        where = f"{path.name}: annotations"
        for image, category, place, entry in _entries(annotations, "image_id", "category_id", where, listing):
            paint = _area(entry.get("segmentation"))
            if category in names and paint:
                areas.setdefault(image, []).append((names[category], paint))
            else:
                listing.fault(place, "no outline of a known category; ignored, add it or remove the annotation")
        for number, name, place, entry in _entries(images, "id", "file_name", f"{path.name}: images", listing):
            if number in areas:
                yield Marks(str(name), place, areas[number], _size(entry))


def _area(segmentation: Any) -> Paint | None:
    match segmentation:
        case {"counts": str() | list() as counts}:
            return runs(counts)
        case [list(), *_] if all(isinstance(each, list) for each in segmentation):
            return united([outlined(each) for each in segmentation])
    return None


def _size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    match image:
        case {"height": int(height), "width": int(width)}:
            return height, width
    return None


def _split(path: Path) -> str:
    return path.parent.name if path.name == "_annotations.coco.json" else path.stem.removeprefix("instances_")


def _read(path: Path, split: str, listing: Listing) -> None:
    match read_json(path, _UNNEEDED):
        case {"annotations": [{"segments_info": _}, *_]}:
            why = "is COCO panoptic, which is not read; name instances_*.json of the same photos, or make it with"
            raise DataError(f"{path}: {why} panoptic2detection_coco_format.py of panopticapi")
        case {"images": list(images), "annotations": list(annotations), "categories": list(categories)}:
            pass
        case _:
            raise DataError(_NOT_COCO.format(path))
    file = path.relative_to(listing.root).as_posix()
    names = _names(categories, file, listing)
    labels: dict[int | str, set[str]] = {}
    for image, category, where in _pairs(annotations, "image_id", "category_id", f"{file}: annotations", listing):
        if category in names:
            labels.setdefault(image, set()).add(names[category])
        else:
            listing.fault(where, f"no category has the id {category!r}; add the category, or remove the annotation")
    seen = set()
    for number, name, where in _pairs(images, "id", "file_name", f"{file}: images", listing):
        if number in seen:
            listing.fault(where, f"another image has the id {number!r}; make ids unique")
        else:
            tags = listing.tags(labels.get(number, ()), where)
            listing.add_listed(str(name), tags, where, (split, f"images/{split}"))
        seen.add(number)
    if lost := len(labels.keys() - seen):
        listing.fault(file, f"annotations of {count(lost, 'image')} not listed in images are ignored; add the images")


def _names(categories: Iterable[Any], file: str, listing: Listing) -> dict[int | str, str]:
    """The names of categories by id, the first of each; faults for others with the same id."""
    names: dict[int | str, str] = {}
    for number, name, where in _pairs(categories, "id", "name", f"{file}: categories", listing):
        if names.setdefault(number, str(name)) != str(name):
            listing.fault(where, f"another category has the id {number!r}; make ids unique")
    return names


def _pairs(
    entries: Iterable[Any], first: str, second: str, where: str, listing: Listing
) -> Iterator[tuple[int | str, int | str, str]]:
    """Two values of each entry, and its place in the file; faults for entries without them."""
    for one, other, place, _ in _entries(entries, first, second, where, listing):
        yield one, other, place


def _entries(
    entries: Iterable[Any], first: str, second: str, where: str, listing: Listing
) -> Iterator[tuple[int | str, int | str, str, dict[str, Any]]]:
    """The same, with the entry itself."""
    for index, entry in enumerate(entries):
        place = f"{where}[{index}]"
        values = [plain_id(entry.get(key)) for key in (first, second)] if isinstance(entry, dict) else []
        match values:
            case [int() | str() as one, int() | str() as other]:
                yield one, other, place, entry
            case _:
                listing.fault(place, f"malformed, {first} and {second} are required; correct or remove it")


def write(data: TaggedPhotos, out: Path, subset: str, advance: Advance) -> None:
    """Images are numbered from 1 in order of photo ids, annotations from 1 on."""
    with atomic_write(out / "annotations" / f"instances_{subset}.json") as file:
        file.write(
            b'{"info":{"description":"Masks by Tagmask"},\n"categories":' + json_line(categories(data.mask_classes))
        )
        file.write(b',\n"images":')
        write_json_array(file, _images(data))
        file.write(b',\n"annotations":')
        write_json_array(file, _annotations(data, advance))
        file.write(b"}\n")


def _images(data: TaggedPhotos) -> Iterator[dict[str, Any]]:
    for number, photo in enumerate(data.photos, start=1):
        width, height = mask_size(photo)
        name = photo.path.relative_to(data.root).as_posix()
        yield {"id": number, "file_name": name, "width": width, "height": height}


def _annotations(data: TaggedPhotos, advance: Advance) -> Iterator[CocoObject]:
    number = 0
    for image, photo in enumerate(data.photos, start=1):
        for region in regions(photo, data):
            number += 1
            yield annotation(region, coco_rle(region.plane), number=number, image=image)
        advance(1)
