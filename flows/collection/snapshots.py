"""A version of the data set: two lists beside the photos, which later photos do not change.

data/<digest>.jsonl            {"image": "photos/aa/<sha256>.jpg", "tags": ["cat"]}, a line a photo, in order of SHA-256
data/<digest>.held-out.jsonl   the same of photos that no model learns from, to compare models on
"""

import filecmp
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from flows.collection.catalogue import Catalogue
from flows.collection.disk import writable
from flows.settings import DataSettings
from flows.workspace import Workspace
from tagmask.files import atomic_write
from tagmask.masks import MAX_CLASSES


@dataclass(frozen=True)
class Snapshot:
    """A version of the data set: its lists, and what they hold.

    `digest` is the SHA-256 in hex of classes and training list, and begins the names of the files. `classes` are sorted
    and each has a training photo; there may be none yet. `per_class` counts training photos. `rare` counts the photos,
    held-out ones too, of the tags that are not learned. `gone` counts the photos left out because their file was
    removed from the workspace; they are back when a source shows them again.
    """

    digest: str
    training: Path
    held_out: Path
    classes: tuple[str, ...]
    photos: int
    held_out_photos: int
    per_class: Mapping[str, int]
    rare: Mapping[str, int]
    gone: int


@dataclass(frozen=True)
class _Tagged:
    """A photo by its path below photos/, whether its file is there, and whether it only compares models."""

    copy: str
    tags: tuple[str, ...]
    there: bool
    held_out: bool


def snapshot(workspace: Workspace, data: DataSettings) -> Snapshot:
    """Write the lists of all that the catalogue knows; with the same catalogue and settings no file is changed.

    Learned are the tags of at least `data.least_photos` photos of which one is not held out; if these are more than
    MAX_CLASSES, those of most photos. A photo is held out, however the data set grows, when its SHA-256, read as a
    number from 0 to 1, is below `data.held_out`, and none is when `data.masks` names others to compare on; of the
    held-out photos the first `data.most_held_out` are listed, and the others not used. Raises RunError.
    """
    share = 0.0 if data.masks else data.held_out
    with Catalogue(workspace) as catalogue, writable(workspace.data):
        known, learnable, gone = Counter[str](), Counter[str](), 0
        for photo in _tagged(catalogue, share):
            gone += not photo.there
            known.update(photo.tags if photo.there else ())
            learnable.update(photo.tags if photo.there and not photo.held_out else ())
        classes = _classes(known, learnable, data.least_photos)
        rare = {tag: known[tag] for tag in sorted(known) if tag not in classes}
        return _write(_tagged(catalogue, share), workspace.data, classes, data.most_held_out, rare, gone)


def _classes(known: Counter[str], learnable: Counter[str], least: int) -> tuple[str, ...]:
    frequent = (tag for tag, photos in known.items() if photos >= least and learnable[tag])
    return tuple(sorted(sorted(frequent, key=lambda tag: (-known[tag], tag))[:MAX_CLASSES]))


def _tagged(catalogue: Catalogue, share: float) -> Iterator[_Tagged]:
    """What carries tags, in order; each folder of photos is read once, and no more than one of them is in memory."""
    for folder, group in groupby(catalogue.tagged(), key=lambda photo: photo[0].partition("/")[0]):
        root = catalogue.workspace.photos / folder
        files = {path.name for path in root.iterdir()} if root.is_dir() else set()
        for copy, tags in group:
            if tags:
                name = copy.partition("/")[2]
                yield _Tagged(copy, tags, name in files, int(name[:13], 16) < share * 16**13)


def _write(
    photos: Iterable[_Tagged],
    folder: Path,
    classes: tuple[str, ...],
    most_held_out: int,
    rare: dict[str, int],
    gone: int,
) -> Snapshot:
    total = hashlib.sha256("\0".join(classes).encode())
    per_class = dict.fromkeys(classes, 0)
    training = held_out = 0
    training_part, held_out_part = folder / ".training.part", folder / ".held-out.part"
    with atomic_write(training_part) as training_file, atomic_write(held_out_part) as held_out_file:
        for photo in photos:
            tags = [tag for tag in photo.tags if tag in per_class]
            if not (tags and photo.there):
                continue
            line = json.dumps({"image": f"photos/{photo.copy}", "tags": tags}, ensure_ascii=False).encode() + b"\n"
            if not photo.held_out:
                training_file.write(line)
                total.update(b"\n" + line)
                training += 1
                for tag in tags:
                    per_class[tag] += 1
            elif held_out < most_held_out:
                held_out_file.write(line)
                held_out += 1
    digest = total.hexdigest()
    return Snapshot(
        digest=digest,
        held_out=_settled(held_out_part, folder / f"{digest[:16]}.held-out.jsonl"),
        training=_settled(training_part, folder / f"{digest[:16]}.jsonl"),
        classes=classes,
        photos=training,
        held_out_photos=held_out,
        per_class=per_class,
        rare=rare,
        gone=gone,
    )


def _settled(part: Path, path: Path) -> Path:
    """Give the finished list its name, unless that very list has it already."""
    if path.is_file() and filecmp.cmp(part, path, shallow=False):
        part.unlink()
    else:
        part.replace(path)
    return path
