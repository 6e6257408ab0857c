"""Ingestion of photos, one by one and in any process: each is decoded once and copied into the workspace."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from flows.workspace import Workspace
from tagmask.corrections import Correction
from tagmask.disk import writable
from tagmask.errors import DataError
from tagmask.files import atomic_write, open_file, read_fault, write_text
from tagmask.photos import MAX_BYTES, PHOTO_SUFFIXES, SUFFIXES, decode_file
from tagmask.wording import printable

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Arrival:
    """A photo at an absolute path, with its tags, and its correction and its hint, if it has them.

    It is `retagged` when its bytes are known, and only these are new.
    """

    path: str
    tags: tuple[str, ...]
    correction: Correction | None = None
    hint: Correction | None = None
    retagged: bool = False


@dataclass(frozen=True)
class Content:
    """The bytes at a path: their SHA-256 in hex, the suffix of their copy, and the file's `size` and time before.

    `width` and `height` are in pixels as displayed, 0 for what is not a photo; `size` is in bytes.
    """

    sha: str
    suffix: str
    width: int
    height: int
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Outcome:
    """The result of an arrival.

    With `content`, the bytes were copied: to the photos or, if there is a `fault`, to the quarantine. Without it,
    nothing was read: either the photo was only retagged, or it was skipped because of the `fault`, and is retried.
    """

    path: str
    tags: tuple[str, ...]
    content: Content | None = None
    fault: str | None = None
    correction: Correction | None = None
    hint: Correction | None = None


class _SkippedError(Exception):
    """The photo cannot be read now, or was forgotten; it will be looked at again."""


def ingest(shard: Sequence[Arrival], workspace: Workspace) -> tuple[Outcome, ...]:
    """Copy each photo into the workspace, or into its quarantine if it cannot be used.

    A photo that is missing, unreadable, changing or forgotten is skipped. The call is idempotent. Raises RunError when
    the workspace cannot be written, such as on a full disk; no partial file remains.
    """
    return tuple(_ingest(arrival, workspace) for arrival in shard)


def _ingest(arrival: Arrival, workspace: Workspace) -> Outcome:
    if arrival.retagged:
        return Outcome(arrival.path, arrival.tags, correction=arrival.correction, hint=arrival.hint)
    path = Path(arrival.path)
    try:
        with _reading(), open_file(path, MAX_BYTES) as file:
            stat = os.fstat(file.fileno())
            sha = hashlib.file_digest(file, "sha256").hexdigest()
        if sha in workspace.forgotten:
            raise _SkippedError("it was forgotten; remove it from this source")
        suffix, width, height, fault = _decode(path)
        if fault is None:
            _copy(path, workspace.photos / sha[:2] / f"{sha}{suffix}", sha)
        else:
            _copy(path, workspace.quarantine / f"{sha}{suffix}", sha)
            _explain(workspace.quarantine / f"{sha}.json", arrival.path, fault)
    except _SkippedError as error:
        return Outcome(arrival.path, arrival.tags, fault=str(error))
    content = Content(sha, suffix, width, height, stat.st_size, stat.st_mtime_ns)
    return Outcome(arrival.path, arrival.tags, content, fault, arrival.correction, arrival.hint)


def _decode(path: Path) -> tuple[str, int, int, str | None]:
    """Suffix by content, width, height and None; for what is not a photo the suffix of its name, 0, 0 and the fault."""
    try:
        decoded = decode_file(path)
        height, width = decoded.size
        return SUFFIXES[decoded.media_type], width, height, None
    except DataError as error:
        with _reading():
            empty = path.stat().st_size == 0
        fault = "the file is empty; replace or remove it" if empty else str(error).removeprefix(f"{path}: ")
        suffix = path.suffix.lower()
        return suffix if suffix in PHOTO_SUFFIXES else "", 0, 0, printable(fault)


def _copy(path: Path, target: Path, sha: str) -> None:
    """Copy the bytes with this SHA-256, unless the copy exists; a link would change when the photo is edited."""
    with writable(target.parent):
        if target.is_file():
            return
        with atomic_write(target) as file:
            copied = hashlib.sha256()
            for block in _blocks(path):
                copied.update(block)
                file.write(block)
            if copied.hexdigest() != sha:
                raise _SkippedError("it changed while being read; it will be retried")


def _explain(target: Path, source: str, fault: str) -> None:
    with writable(target.parent):
        if not target.is_file():
            time = datetime.now(UTC).isoformat(timespec="seconds")
            record = {"source": source, "fault": fault, "time": time}
            write_text(target, json.dumps(record, ensure_ascii=False, indent=2) + "\n")


def _blocks(path: Path) -> Iterator[bytes]:
    with _reading(), open_file(path, MAX_BYTES) as file:
        while block := file.read(_BLOCK):
            yield block


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise _SkippedError("it disappeared before it was read; it will be ingested when it is back") from error
    except OSError as error:
        raise _SkippedError(f"it {read_fault(error)}") from error
