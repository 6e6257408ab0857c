"""The photo list of a snapshot, read line by line: its photos in shards, and the difference from a previous list."""

import hashlib
import heapq
import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path, PurePosixPath

from tagmask.errors import DataError
from training.datasets.held_out import without_correction
from training.datasets.photos import Photo, listed_masks


@dataclass(frozen=True)
class Shard:
    """Consecutive photos of a list; `number` counts from 0, `digest` is their `photos_digest`."""

    number: int
    digest: str
    photos: tuple[Photo, ...]


@dataclass(frozen=True)
class Change:
    """The difference between two lists: numbers of photos, and names of classes.

    `corrected` counts photos whose correction is new or has changed.
    """

    new_photos: int
    retagged: int
    lost_photos: int
    new_classes: tuple[str, ...]
    lost_classes: tuple[str, ...]
    corrected: int = 0


def shards(path: Path, size: int, held_out: Collection[str] = ()) -> Iterator[Shard]:
    """The photos of the list at `path` in shards of `size`, each as `training.datasets.load(path)` returns it.

    Those of the ids `held_out` are without their correction. Raises DataError for a missing or damaged list.
    """
    photos = (without_correction(photo, held_out) for photo in _photos(path))
    number = 0
    while part := tuple(islice(photos, size)):
        yield Shard(number, photos_digest(part), part)
        number += 1


def photos_digest(photos: Iterable[Photo]) -> str:
    """SHA-256 hex digest of the ids, tags, corrections and hints of `photos`."""
    lines = "\n".join(
        f"{photo.id}\0{' '.join(photo.tags)}"
        + (f"\0{photo.correction}" if photo.correction else "")
        + (f"\0hint {photo.hint}" if photo.hint else "")
        for photo in photos
    )
    return hashlib.sha256(lines.encode()).hexdigest()


def diff(previous: Path | None, current: Path) -> Change:
    """The change from one list to another; everything is new when the previous list is None or missing.

    Raises DataError for a damaged list.
    """
    old = _photos(previous) if previous and previous.is_file() else iter(())
    new_photos = retagged = lost_photos = corrected = 0
    before: set[str] = set()
    after: set[str] = set()
    for old_photo, new_photo in _pairs(old, _photos(current)):
        before.update(old_photo.tags if old_photo else ())
        after.update(new_photo.tags if new_photo else ())
        new_photos += old_photo is None
        lost_photos += new_photo is None
        retagged += bool(old_photo and new_photo and old_photo.tags != new_photo.tags)
        corrections = (photo and photo.correction for photo in (old_photo, new_photo))
        corrected += len(set(corrections)) == 2
    classes = tuple(sorted(after - before)), tuple(sorted(before - after))
    return Change(new_photos, retagged, lost_photos, *classes, corrected)


def _pairs(old: Iterator[Photo], new: Iterator[Photo]) -> Iterator[tuple[Photo | None, Photo | None]]:
    """Each photo as it is in one list and in the other; both are sorted by id."""
    marked = heapq.merge(((photo.id, 0, photo) for photo in old), ((photo.id, 1, photo) for photo in new))
    for _, group in groupby(marked, key=itemgetter(0)):
        photos = {index: photo for _, index, photo in group}
        yield photos.get(0), photos.get(1)


def _photos(path: Path) -> Iterator[Photo]:
    number = 0
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                number += 1
                match json.loads(line):
                    case {"image": str(image), "tags": list(tags), **rest}:
                        name = str(PurePosixPath(image).with_suffix(""))
                        yield Photo(name, path.parent / image, tuple(tags), None, *listed_masks(rest))
                    case _:
                        raise ValueError("not an image with its tags")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); start the flow again") from error
    except ValueError as error:
        raise DataError(f"{path}:{number}: damaged ({error}); remove it, and start the flow again") from error
