"""A version of the data set: two immutable lists beside the photos, one line per photo, sorted by SHA-256.

data/<digest>.jsonl            {"image": "photos/aa/<sha256>.jpg", "tags": ["cat"]}
data/<digest>.held-out.jsonl   the held-out set: photos that are never trained on, to compare models

A photo that shows nothing has no tags. One with a correction has it under "correction", one with a hint under "hint".
"""

import filecmp
import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from flows.collection.catalogue import Catalogue
from flows.settings import DataSettings
from flows.workspace import Workspace
from tagmask.corrections import Correction
from tagmask.disk import writable
from tagmask.files import atomic_write
from tagmask.masks import BACKGROUND, MAX_CLASSES


@dataclass(frozen=True)
class Snapshot:
    """A version of the data set: its lists and their contents.

    `digest` is the SHA-256 of classes and training list in hex; its first 16 digits name the files. `classes` are
    sorted, and each has a training photo; there may be none yet. `per_class` counts training photos, `empty` those that
    show nothing, `corrected` those with a correction. `rare` counts the photos of tags that are not classes, held-out
    ones included. `missing` counts the photos left out because their file was removed from the workspace; they return
    when a source lists them again.
    """

    digest: str
    training: Path
    held_out: Path
    classes: tuple[str, ...]
    photos: int
    held_out_photos: int
    per_class: Mapping[str, int]
    empty: int
    corrected: int
    rare: Mapping[str, int]
    missing: int


class _Tagged(NamedTuple):
    """A photo by its path below photos/, whether its file exists, and whether it is in the held-out set."""

    copy: str
    tags: tuple[str, ...]
    correction: Correction | None
    hint: Correction | None
    exists: bool
    held_out: bool


def snapshot(workspace: Workspace, data: DataSettings) -> Snapshot:
    """Write the lists of all usable photos; with the same catalogue and settings no file changes.

    Classes are the tags with at least `data.min_photos` photos, one of them not held out; beyond MAX_CLASSES, the most
    frequent ones. A photo is held out, however the data set grows, if its SHA-256, read as a number from 0 to 1, is
    below `data.held_out`; none is if `data.masks` replaces the held-out set. The first `data.max_held_out` are listed,
    of which at most half show nothing; the rest are not used. Raises RunError when the workspace cannot be written.
    """
    share = 0.0 if data.masks else data.held_out
    with Catalogue(workspace) as catalogue, writable(workspace.data):
        known, trainable, missing = Counter[str](), Counter[str](), 0
        absent = catalogue.missing()
        for photo in _tagged(catalogue, absent, share):
            missing += not photo.exists
            known.update(photo.tags if photo.exists else ())
            trainable.update(photo.tags if photo.exists and not photo.held_out else ())
        del known[BACKGROUND]
        classes = _classes(known, trainable, data.min_photos)
        rare = {tag: known[tag] for tag in sorted(known) if tag not in classes}
        return _write(_tagged(catalogue, absent, share), workspace.data, classes, data.max_held_out, rare, missing)


def _classes(known: Counter[str], trainable: Counter[str], minimum: int) -> tuple[str, ...]:
    frequent = (tag for tag, photos in known.items() if photos >= minimum and trainable[tag])
    return tuple(sorted(sorted(frequent, key=lambda tag: (-known[tag], tag))[:MAX_CLASSES]))


def _tagged(catalogue: Catalogue, absent: Collection[str], share: float) -> Iterator[_Tagged]:
    """The tagged photos, sorted."""
    for photo in catalogue.tagged():
        if photo.tags:
            sha = photo.copy.rpartition("/")[2][:64]
            yield _Tagged(*photo, sha not in absent, int(sha[:13], 16) < share * 16**13)


def _write(
    photos: Iterable[_Tagged],
    folder: Path,
    classes: tuple[str, ...],
    max_held_out: int,
    rare: dict[str, int],
    missing: int,
) -> Snapshot:
    total = hashlib.sha256("\0".join(classes).encode())
    per_class = dict.fromkeys(classes, 0)
    training = held_out = empty = corrected = empty_held_out = 0
    training_part, held_out_part = folder / ".training.part", folder / ".held-out.part"
    with atomic_write(training_part) as training_file, atomic_write(held_out_part) as held_out_file:
        for photo in photos:
            tags = [tag for tag in photo.tags if tag in per_class]
            if not photo.exists or not (tags or BACKGROUND in photo.tags):
                continue
            record: dict[str, Any] = {"image": f"photos/{photo.copy}", "tags": tags}
            if photo.correction:
                record["correction"] = asdict(photo.correction)
            elif photo.hint and tags:
                record["hint"] = asdict(photo.hint)
            line = json.dumps(record, ensure_ascii=False).encode() + b"\n"
            if not photo.held_out:
                training_file.write(line)
                total.update(b"\n" + line)
                training += 1
                empty += not tags
                corrected += photo.correction is not None
                for tag in tags:
                    per_class[tag] += 1
            elif held_out < max_held_out and (tags or 2 * empty_held_out < held_out):
                held_out_file.write(line)
                held_out += 1
                empty_held_out += not tags
    digest = total.hexdigest()
    return Snapshot(
        digest=digest,
        held_out=_rename(held_out_part, folder / f"{digest[:16]}.held-out.jsonl"),
        training=_rename(training_part, folder / f"{digest[:16]}.jsonl"),
        classes=classes,
        photos=training,
        held_out_photos=held_out,
        per_class=per_class,
        empty=empty,
        corrected=corrected,
        rare=rare,
        missing=missing,
    )


def _rename(part: Path, path: Path) -> Path:
    """Give the finished list its name, unless a file of this name and content exists already."""
    if path.is_file() and filecmp.cmp(part, path, shallow=False):
        part.unlink()
    else:
        part.replace(path)
    return path
