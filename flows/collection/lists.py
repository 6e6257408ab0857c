"""The list of a snapshot, read a line at a time: what changed since a former one, and its photos in shards."""

import hashlib
import heapq
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path, PurePosixPath

from tagmask.errors import DataError
from training.datasets.photos import Photo


@dataclass(frozen=True)
class Shard:
    """Successive photos of a list, the shard with `number` from 0; `digest` is the SHA-256 in hex of ids and tags."""

    number: int
    digest: str
    photos: tuple[Photo, ...]


@dataclass(frozen=True)
class Change:
    """From a former list to another: photos that are new, have other tags, or are no longer there, and classes."""

    new_photos: int
    retagged: int
    lost_photos: int
    new_classes: tuple[str, ...]
    lost_classes: tuple[str, ...]


def shards(path: Path, size: int) -> Iterator[Shard]:
    """The photos of the list at `path`, `size` at a time, as `training.datasets.load(path)` has them.

    Raises DataError when the list is not there or damaged.
    """
    photos = _photos(path)
    number = 0
    while part := tuple(islice(photos, size)):
        words = "\n".join(f"{photo.id}\0{' '.join(photo.tags)}" for photo in part)
        yield Shard(number, hashlib.sha256(words.encode()).hexdigest(), part)
        number += 1


def compare(former: Path | None, now: Path) -> Change:
    """What changed between two lists; all is new when there is no former one, or it is no longer there.

    Raises DataError as `shards` does.
    """
    old = _photos(former) if former and former.is_file() else iter(())
    new_photos = retagged = lost_photos = 0
    before: set[str] = set()
    after: set[str] = set()
    for was, photo in _pairs(old, _photos(now)):
        before.update(was.tags if was else ())
        after.update(photo.tags if photo else ())
        new_photos += was is None
        lost_photos += photo is None
        retagged += bool(was and photo and was.tags != photo.tags)
    return Change(new_photos, retagged, lost_photos, tuple(sorted(after - before)), tuple(sorted(before - after)))


def _pairs(former: Iterator[Photo], now: Iterator[Photo]) -> Iterator[tuple[Photo | None, Photo | None]]:
    """Each photo as it is in one list and in the other."""
    marked = heapq.merge(((photo.id, 0, photo) for photo in former), ((photo.id, 1, photo) for photo in now))
    for _, group in groupby(marked, key=itemgetter(0)):
        found = {index: photo for _, index, photo in group}
        yield found.get(0), found.get(1)


def _photos(path: Path) -> Iterator[Photo]:
    number = 0
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                number += 1
                match json.loads(line):
                    case {"image": str(image), "tags": list(tags)}:
                        yield Photo(str(PurePosixPath(image).with_suffix("")), path.parent / image, tuple(tags))
                    case _:
                        raise ValueError("not a photo with its tags")
    except OSError as fault:
        raise DataError(f"{path}: cannot be read ({fault.strerror}); take a new snapshot") from fault
    except ValueError as fault:
        raise DataError(f"{path}:{number}: damaged ({fault}); take a new snapshot") from fault
