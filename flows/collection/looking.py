"""Photos of a source looked at one by one, in any process: each decoded once, and copied into the workspace."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from PIL import Image

from flows.collection.disk import writable
from flows.workspace import Workspace
from tagmask.errors import DataError
from tagmask.files import atomic_write, write_text
from tagmask.photos import read_photo
from training.datasets.listing import PHOTO_SUFFIXES, shown

MAX_BYTES = 1_000_000_000
"""Larger files are not even read."""

_BLOCK = 1 << 20

_SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "TIFF": ".tif", "HEIF": ".heic"}
"""By Pillow's format; all others are spelt like their format."""


@dataclass(frozen=True)
class Arrival:
    """A photo at an absolute path, with its tags; `retagged` when its bytes are known and only the tags are new."""

    path: str
    tags: tuple[str, ...]
    retagged: bool = False


@dataclass(frozen=True)
class Seen:
    """The bytes found at a path: SHA-256 in hex, suffix of their copy, and what the path was like just before.

    `width` and `height` are in pixels as displayed, 0 for what is no photo; `size` is in bytes.
    """

    sha: str
    suffix: str
    width: int
    height: int
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Outcome:
    """What became of an arrival.

    With `seen` its bytes were copied: to the photos, or for the reason `why` to the quarantine. Without it nothing was
    read: only the tags were new, or it was missed for the reason `why` and is an arrival again the next time.
    """

    path: str
    tags: tuple[str, ...]
    seen: Seen | None = None
    why: str | None = None


class _MissedError(Exception):
    """The photo cannot be taken now, and nothing is to be remembered of it."""


def look_at(shard: Sequence[Arrival], workspace: Workspace) -> tuple[Outcome, ...]:
    """Copy each photo into the workspace, or into its quarantine when nothing can be learned from it.

    One that has vanished, cannot be read or changes meanwhile is missed. Looking twice does no harm. Raises RunError
    when the workspace cannot be written, on a full disk above all; no half file is left then.
    """
    return tuple(_look(arrival, workspace) for arrival in shard)


def _look(arrival: Arrival, workspace: Workspace) -> Outcome:
    if arrival.retagged:
        return Outcome(arrival.path, arrival.tags)
    path = Path(arrival.path)
    try:
        with _reading():
            stat = path.stat()
        if stat.st_size > MAX_BYTES:
            raise _MissedError(f"{stat.st_size:,} bytes, at most {MAX_BYTES:,} are read; scale the photo down")
        sha = _sha(path)
        suffix, width, height, why = _decoded(path)
        if why is None:
            _copy(path, workspace.photos / sha[:2] / f"{sha}{suffix}", sha)
        else:
            _copy(path, workspace.quarantine / f"{sha}{suffix}", sha)
            _explain(workspace.quarantine / f"{sha}.json", arrival.path, why)
    except _MissedError as fault:
        return Outcome(arrival.path, arrival.tags, why=str(fault))
    return Outcome(arrival.path, arrival.tags, Seen(sha, suffix, width, height, stat.st_size, stat.st_mtime_ns), why)


def _sha(path: Path) -> str:
    sha = hashlib.sha256()
    for block in _blocks(path):
        sha.update(block)
    return sha.hexdigest()


def _decoded(path: Path) -> tuple[str, int, int, str | None]:
    """Suffix by what the bytes are, width and height; for what is no photo its suffix by name, 0, 0 and why."""
    try:
        height, width = read_photo(path).shape[:2]
        with _reading(), Image.open(path) as image:
            form = image.format or ""
        return _SUFFIXES.get(form, f".{form.lower()}"), width, height, None
    except DataError as fault:
        with _reading():
            empty = path.stat().st_size == 0
        why = "the file is empty; replace or remove it" if empty else str(fault).removeprefix(f"{path}: ")
        suffix = path.suffix.lower()
        return suffix if suffix in PHOTO_SUFFIXES else "", 0, 0, shown(why)


def _copy(path: Path, target: Path, sha: str) -> None:
    """Copy the bytes with this SHA-256, unless they are there; a link would change when the photo is edited."""
    with writable(target.parent):
        if target.is_file():
            return
        with atomic_write(target) as file:
            copied = hashlib.sha256()
            for block in _blocks(path):
                copied.update(block)
                file.write(block)
            if copied.hexdigest() != sha:
                raise _MissedError("it was changed while it was read; it is taken the next time")


def _explain(target: Path, source: str, why: str) -> None:
    with writable(target.parent):
        if not target.is_file():
            found = datetime.now(UTC).isoformat(timespec="seconds")
            record = {"from": source, "why": why, "found": found}
            write_text(target, json.dumps(record, ensure_ascii=False, indent=2) + "\n")


def _blocks(path: Path) -> Iterator[bytes]:
    with _reading(), path.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as fault:
        raise _MissedError("it vanished before it was read; it is taken when it is back") from fault
    except OSError as fault:
        raise _MissedError(f"it cannot be read ({fault.strerror}); make it readable") from fault
