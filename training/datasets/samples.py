"""The service's inbox: <aa>/<sha256>.jpg with <aa>/<sha256>.json, which holds "image", the photo's name, and "tags".

The tag "background" alone says that the photo shows nothing; the tags of a photo without any were taken back. What a
person says about its pixels is <aa>/<sha256>.correction.png, read as a correction alone.

Optional are splits/<split>.txt (ids "aa/sha256", one per line), and masks/<aa>/<sha256>.png with classes.txt. What the
service is writing, or left when it was killed, is hidden or a photo without its JSON.
"""

import json
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

from tagmask.errors import DataError
from tagmask.inbox import CORRECTION_SUFFIX, forgotten_samples
from tagmask.photos import PHOTO_SUFFIXES
from training.datasets.folders import OWN
from training.datasets.listing import Listing, path_fault, read_text
from training.datasets.photos import Photo

MAX_JSON_BYTES = 1_000_000
"""Largest JSON of a sample; the service's have some hundreds of bytes."""

_HEX = "[0-9a-f]"


def is_samples(root: Path) -> bool:
    """Whether the folder contains a sample: a JSON file named by a SHA-256 in a folder of two hex digits."""
    return any(path.name.startswith(path.parent.name) for path in root.glob(f"{_HEX * 2}/{_HEX * 64}.json"))


def corrections(root: Path) -> Iterator[tuple[str, Path]]:
    """The corrections of the samples in a folder: the id of the photo, and the file."""
    forgotten = frozenset(forgotten_samples(root))
    for path in sorted(root.glob(f"{_HEX * 2}/{_HEX * 64}{CORRECTION_SUFFIX}")):
        name = path.name.removesuffix(CORRECTION_SUFFIX)
        if name not in forgotten and path.with_name(f"{name}.json").is_file():
            yield f"{path.parent.name}/{name}", path


def read(root: Path, split: str | None) -> Listing:
    """Read all samples, or those of a split. Raises DataError for an unknown split."""
    listing = Listing(root)
    forgotten = frozenset(forgotten_samples(root))  # some of their files are left if that was interrupted
    beside = {*OWN, "classes.txt"}
    for path in sorted(path for path in root.iterdir() if not path.name.startswith(".") and path.name not in beside):
        if path.match(_HEX * 2) and path.is_dir():
            _read_folder(path, forgotten, listing)
        else:
            listing.fault(path.name, "ignored, as it is not a folder of samples; read it separately, or remove it")
    if split is not None:
        listing.keep_split(split)
    listing.attach_masks()
    return listing


def _read_folder(folder: Path, forgotten: Collection[str], listing: Listing) -> None:
    visible = (path for path in folder.iterdir() if not path.name.startswith("."))
    others = (path for path in visible if not path.name.endswith(CORRECTION_SUFFIX))
    files = sorted(path for path in others if path.stem not in forgotten)
    described = {path.stem for path in files if path.suffix == ".json"}
    for path in files:
        where = f"{folder.name}/{path.name}"
        if path.suffix == ".json":
            _add(path, where, listing)
        elif path.stem not in described:
            listing.fault(
                where, f"its tags are missing, as there is no {path.stem}.json; send the photo again, or remove it"
            )


def _add(path: Path, where: str, listing: Listing) -> None:
    try:
        record = json.loads(read_text(path, MAX_JSON_BYTES))
    except DataError as fault:
        listing.fault(where, str(fault).removeprefix(f"{path}: "))
        return
    except (ValueError, RecursionError):
        record = None
    match record:
        case {"image": str(image), "tags": list(tags)} if all(isinstance(tag, str) for tag in tags):
            _add_photo(path, image, listing.tags(tags, where), where, listing)
        case _:
            listing.fault(where, 'malformed sample; write {"image": "a.jpg", "tags": ["cat"]}')


def _add_photo(path: Path, image: str, tags: tuple[str, ...], where: str, listing: Listing) -> None:
    name = PurePosixPath(image)
    if fault := path_fault(image) or path_fault(where):
        listing.fault(where, fault)
    elif image != name.name or name.stem != path.stem or name.suffix.lower() not in PHOTO_SUFFIXES:
        listing.fault(
            where, f"image {image!r} is not named like its JSON; rename it to {path.stem} with its actual suffix"
        )
    elif not (path.parent / image).is_file():
        listing.fault(where, f"photo {image!r} not found beside it; add it or remove the JSON")
    else:
        listing.add(Photo(f"{path.parent.name}/{path.stem}", path.parent / image, tags), where)
