"""Datumaro's own format, which CVAT exports too: the tags of a photo are the labels of its annotations of any kind.

annotations/<split>.json   photos in images/<split>/ or images/

https://open-edge-platform.github.io/datumaro/stable/docs/data-formats/formats/datumaro.html. Outlines are not read.
"""

import re
from pathlib import Path, PurePath
from typing import Any

from tagmask.errors import DataError
from training.datasets.documents import data_folder, lists, read_json
from training.datasets.listing import Listing, path_fault, read_ids, split_file

_PATTERNS = ("annotations/*.json",)
_HEAD = re.compile(rb'\s*\{.*"categories"\s*:\s*\{', re.DOTALL)
_UNNEEDED = ("points", "rle", "attributes", "attr")


def is_datumaro(root: Path) -> bool:
    """Whether a file, or a file in a folder's annotations/, begins as Datumaro's do."""
    return bool(lists(root, _PATTERNS, _HEAD))


def read(root: Path, split: str | None) -> Listing:
    """Read the file `root`, or all in a folder's annotations/.

    A split is the name of a file, or else a list of ids, splits/<split>.txt. Raises DataError for an unknown split, a
    folder without such files, or a file that lacks what Datumaro's have.
    """
    files = lists(root, _PATTERNS, _HEAD) or lists(root, _PATTERNS)
    if not files:
        raise DataError(f"{root}: no .json in its annotations/; put Datumaro's file there, or name it")
    listing = Listing(data_folder(root))
    named = [path for path in files if path.stem == split]
    for path in named or files:
        _read(path, listing)
    if split is not None and not named:
        listing.keep(read_ids(split_file(listing.root, split, (path.stem for path in files)), listing))
    return listing


def _read(path: Path, listing: Listing) -> None:
    match read_json(path, _UNNEEDED):
        case {"categories": {"label": {"labels": list(labels)}}, "items": list(items)}:
            names = [str(label.get("name", "")) if isinstance(label, dict) else "" for label in labels]
        case _:
            raise DataError(f"{path}: not Datumaro's format, which has categories of labels, and items; export it anew")
    file = path.relative_to(listing.root).as_posix()
    for index, item in enumerate(items):
        where = f"{file}: items[{index}]"
        match item:
            case {"id": str(name), "annotations": list(annotations)}:
                tags = listing.tags(_labels(annotations, names, where, listing), where)
                listing.add_listed(_image(item, name), tags, where, (f"images/{path.stem}",))
            case _:
                listing.fault(where, "malformed, as it needs id and annotations; correct or remove it")


def _image(item: dict[str, Any], name: str) -> str:
    """The path of the photo below images/; where it leads elsewhere, as of photos not saved, the id with its suffix."""
    match item:
        case {"image": {"path": str(path)}} | {"media": {"path": str(path)}} if path:
            return name + PurePath(path).suffix if path_fault(path) else path
    return f"{name}.jpg"


def _labels(annotations: list[Any], names: list[str], where: str, listing: Listing) -> set[str]:
    found = set()
    for index, annotation in enumerate(annotations):
        match annotation:
            case {"label_id": int(number)} if 0 <= number < len(names):
                found.add(names[number])
            case {"label_id": None} | {"type": "caption"}:
                pass
            case _:
                listing.fault(f"{where}.annotations[{index}]", "its label_id is no label's; correct or remove it")
    return found
