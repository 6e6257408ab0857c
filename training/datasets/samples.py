"""The service's inbox: <aa>/<sha256>.jpg with <aa>/<sha256>.json, which holds "image", the photo's name, and "tags".

The tag "background" alone says that the photo shows nothing; the tags of a photo without any were taken back. What a
person says about its pixels is <aa>/<sha256>.correction.png, read as a correction alone.

Optional are splits/<split>.txt (ids "aa/sha256", one per line), and masks/<aa>/<sha256>.png with classes.txt. What the
service is writing, or left when it was killed, is hidden or a photo without its JSON.
"""

import json
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import NamedTuple

from tagmask.corrections import Correction
from tagmask.errors import DataError
from tagmask.inbox import CORRECTION_SUFFIX, forgotten_samples
from tagmask.photos import PHOTO_SUFFIXES
from training.datasets.folders import OWN
from training.datasets.listing import Listing, read_text
from training.datasets.paths import path_fault
from training.datasets.photos import Photo

MAX_JSON_BYTES = 1_000_000
"""Largest JSON of a sample; the service's have some hundreds of bytes."""

_HEX = "[0-9a-f]"


class SampleDescription(NamedTuple):
    """What the JSON of a sample says: the `suffix` of its photo, which is named like it, and the `tags` as written.

    `size`, in bytes, and `mtime_ns` are those of the JSON; `correction_stamp` has those of the file of its correction,
    None without one. `correction` is None until that file is read, and if it cannot be used.
    """

    size: int
    mtime_ns: int
    suffix: str
    tags: tuple[str, ...]
    correction_stamp: tuple[int, int] | None = None
    correction: Correction | None = None


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
    for folder in folders(listing):
        for name, sample in read_folder(folder, listing, forgotten).items():
            where = f"{folder.name}/{name}.json"
            tags = listing.tags(sample.tags, where)
            listing.add(Photo(f"{folder.name}/{name}", folder / f"{name}{sample.suffix}", tags), where)
    if split is not None:
        listing.keep_split(split)
    listing.attach_masks()
    return listing


def folders(listing: Listing) -> Iterator[Path]:
    """The folders of samples below the root of `listing`, sorted; what else is there is a fault."""
    beside = {*OWN, "classes.txt"}
    for path in sorted(listing.root.iterdir()):
        if path.match(_HEX * 2) and path.is_dir():
            yield path
        elif not path.name.startswith(".") and path.name not in beside:
            listing.fault(path.name, "ignored, as it is not a folder of samples; read it separately, or remove it")


def read_folder(
    folder: Path,
    listing: Listing,
    forgotten: Collection[str],
    known: Mapping[str, SampleDescription] = MappingProxyType({}),
) -> dict[str, SampleDescription]:
    """The samples in `folder`, except the `forgotten` ones, by name; what cannot be used is a fault.

    A JSON that has the size and time of the sample that is `known` by its name is not read again. Its correction
    is kept if its file has the same size and time too; others are left to be read.
    """
    with os.scandir(folder) as entries:
        files = {entry.name: entry for entry in entries}
    samples: dict[str, SampleDescription] = {}
    for name, sample in known.items():
        file, photo = files.get(f"{name}.json"), files.get(f"{name}{sample.suffix}")
        if file and photo and photo.is_file() and _stamp(file) == sample[:2] and name not in forgotten:
            samples[name] = sample
            del files[file.name], files[photo.name]
    for new, entry in sorted(files.items()):
        name, _, suffix = new.rpartition(".")
        if new.startswith(".") or new.endswith(CORRECTION_SUFFIX) or name in samples or name in forgotten:
            continue
        if suffix == "json":
            if read := _read(folder / new, _stamp(entry), listing):
                samples[name] = read
        elif f"{name}.json" not in files:
            why = f"its tags are missing, as there is no {name}.json; send the photo again, or remove it"
            listing.fault(f"{folder.name}/{new}", why)
    for name, sample in samples.items():
        samples[name] = _with_stamp(sample, files.get(f"{name}{CORRECTION_SUFFIX}"))
    return samples


def _with_stamp(sample: SampleDescription, entry: os.DirEntry[str] | None) -> SampleDescription:
    """The sample with size and time of its correction's file, and without what was read before these changed."""
    stamp = _stamp(entry) if entry else None
    return sample if stamp == sample.correction_stamp else sample._replace(correction_stamp=stamp, correction=None)


def _stamp(entry: os.DirEntry[str]) -> tuple[int, int]:
    """Size and time of a file; zeros for a link that leads nowhere."""
    try:
        status = entry.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _read(path: Path, stamp: tuple[int, int], listing: Listing) -> SampleDescription | None:
    where = f"{path.parent.name}/{path.name}"
    try:
        record = json.loads(read_text(path, MAX_JSON_BYTES))
    except DataError as fault:
        listing.fault(where, str(fault).removeprefix(f"{path}: "))
        return None
    except (ValueError, RecursionError):
        record = None
    match record:
        case {"image": str(image), "tags": list(tags)} if all(isinstance(tag, str) for tag in tags):
            if why := _image_fault(image, path) or path_fault(where):
                listing.fault(where, why)
                return None
            return SampleDescription(*stamp, PurePosixPath(image).suffix, tuple(tags))
        case _:
            listing.fault(where, 'malformed sample; write {"image": "a.jpg", "tags": ["cat"]}')
            return None


def _image_fault(image: str, path: Path) -> str | None:
    name = PurePosixPath(image)
    if fault := path_fault(image):
        return fault
    if image != name.name or name.stem != path.stem or name.suffix.lower() not in PHOTO_SUFFIXES:
        return f"image {image!r} is not named like its JSON; rename it to {path.stem} with its actual suffix"
    if not path.with_name(image).is_file():
        return f"photo {image!r} not found beside it; add it or remove the JSON"
    return None
