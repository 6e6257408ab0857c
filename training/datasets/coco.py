"""COCO (Lin et al., ECCV 2014, https://cocodataset.org/#format-data): the tags of a photo are those of its annotations.

annotations/instances_<split>.json   photos in <split>/, images/<split>/ or images/ beside annotations/
<split>/_annotations.coco.json       photos beside it
any other .json                      photos below its folder, or in images/ there

Outlines are not read.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tagmask.errors import DataError
from training.datasets.documents import data_folder, lists, read_json
from training.datasets.listing import Listing, read_ids, split_file

_PATTERNS = ("*.json", "annotations/*.json", "*/_annotations.coco.json")
_HEAD = re.compile(rb'\s*\{.*"((images|categories)"\s*:\s*\[|image_id")', re.DOTALL)
_UNNEEDED = ("segmentation", "keypoints", "bbox", "caption", "licenses", "info")


def is_coco(root: Path) -> bool:
    """Whether a file, or a file in a folder, begins as COCO's do."""
    return bool(lists(root, _PATTERNS, _HEAD))


def read(root: Path, split: str | None) -> Listing:
    """Read the file `root`, or all in a folder; where some are called instances_…, only these.

    A split is part of a file's name, or else a list of ids, splits/<split>.txt. Raises DataError for an unknown split,
    a folder without such files, or a file that lacks what COCO's have.
    """
    files = lists(root, _PATTERNS, _HEAD) or lists(root, _PATTERNS)
    files = [path for path in files if path.name.startswith("instances_")] or files
    if not files:
        raise DataError(f"{root}: no .json in it or in its annotations/; put COCO's file there, or name it")
    listing = Listing(data_folder(root))
    splits = {path: _split(path) for path in files}
    named = [path for path in files if splits[path] == split]
    for path in named or files:
        _read(path, splits[path], listing)
    if split is not None and not named:
        listing.keep(read_ids(split_file(listing.root, split, splits.values()), listing))
    return listing


def _split(path: Path) -> str:
    return path.parent.name if path.name == "_annotations.coco.json" else path.stem.removeprefix("instances_")


def _read(path: Path, split: str, listing: Listing) -> None:
    match read_json(path, _UNNEEDED):
        case {"images": list(images), "annotations": list(annotations), "categories": list(categories)}:
            pass
        case _:
            raise DataError(f"{path}: not COCO, which has lists of images, annotations and categories; export it anew")
    file = path.relative_to(listing.root).as_posix()
    names = {number: name for number, name, _ in _pairs(categories, "id", "name", f"{file}: categories", listing)}
    labels: dict[int | str, set[str]] = {}
    for image, category, where in _pairs(annotations, "image_id", "category_id", f"{file}: annotations", listing):
        if category in names:
            labels.setdefault(image, set()).add(str(names[category]))
        else:
            listing.fault(where, f"no category has the id {category!r}; add it, or remove the annotation")
    seen = set()
    for number, name, where in _pairs(images, "id", "file_name", f"{file}: images", listing):
        if number in seen:
            listing.fault(where, f"another image has the id {number!r}; give each its own")
        else:
            tags = listing.tags(labels.get(number, ()), where)
            listing.add_listed(str(name), tags, where, (split, f"images/{split}"))
        seen.add(number)
    if lost := len(labels.keys() - seen):
        listing.fault(file, f"annotations of {lost} images that are not listed are ignored; list them in images")


def _pairs(
    entries: Iterable[Any], first: str, second: str, where: str, listing: Listing
) -> Iterator[tuple[int | str, int | str, str]]:
    """Two values of each entry, and the place where it stands; faults for entries without them."""
    for index, entry in enumerate(entries):
        place = f"{where}[{index}]"
        values = [entry.get(key) for key in (first, second)] if isinstance(entry, dict) else []
        match values:
            case [int() | str() as one, int() | str() as other]:
                yield one, other, place
            case _:
                listing.fault(place, f"malformed, as it needs {first} and {second}; correct or remove it")
