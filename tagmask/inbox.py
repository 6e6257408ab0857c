"""Photos with tags sent by clients, in a folder that training reads directly (layout `samples`).

INBOX/<aa>/<sha256>.jpg    the bytes as received, with the suffix of their media type; <aa> begins their SHA-256
INBOX/<aa>/<sha256>.json   {"image": "<sha256>.jpg", "tags": ["cat"], …}; written last: a photo without it is no sample

One writer at a time holds <aa>/.lock and writes <aa>/.part, which is renamed once it is on the disk.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tagmask.classes import MAX_LENGTH, class_key, class_name, class_name_fault, find_class
from tagmask.errors import Internal, StartError, StorageFull, Unprocessable, UnsupportedType
from tagmask.files import UnfitFileError, atomic_write, locked, read_bytes, sync_folder
from tagmask.masks import MAX_CLASSES
from tagmask.photos import SUFFIXES

_MAX_TAGS = MAX_CLASSES  # of a sample, over all its requests: the classes that fit an 8-bit mask
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Sample:
    """A stored photo: the SHA-256 of its bytes in hex, all its tags, sorted, and whether it was new."""

    id: str
    tags: tuple[str, ...]
    created: bool


class Inbox:
    """A folder of samples that any number of threads and processes may add to."""

    def __init__(self, root: Path, min_free_bytes: int) -> None:
        """Make the folder. Samples leave `min_free_bytes` of its disk free. Raises StartError if it cannot be used."""
        self._root = root
        self._min_free_bytes = min_free_bytes
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as fault:
            raise StartError(f"inbox {root}: cannot be created ({fault.strerror}); name another folder") from fault
        if not os.access(root, os.R_OK | os.W_OK | os.X_OK):
            raise StartError(f"inbox {root}: not writable; grant access to it, or name another folder")

    def add(
        self, data: bytes, tags: Sequence[str], media_type: str, size: tuple[int, int], source: str | None = None
    ) -> Sample:
        """Store the photo `data`, displayed at `size` (H, W) pixels, with its tags; on return both are on the disk.

        The same bytes again stay one sample, with the tags of both requests. `source` names the request. Raises
        Unprocessable for tags that no model can learn, UnsupportedType for other media types, StorageFull, and Internal
        if the folder cannot be written.
        """
        checked = check_tags(tags)
        if media_type not in SUFFIXES:
            known = ", ".join(SUFFIXES)
            message = f"image: {media_type} is not supported; convert the photo to one of {known}"
            raise UnsupportedType(message, field="image", limit=known)
        name = hashlib.sha256(data).hexdigest()
        record = {
            "image": name + SUFFIXES[media_type],
            "tags": list(checked),
            "sha256": name,
            "media_type": media_type,
            "width": size[1],
            "height": size[0],
            "received": datetime.now(UTC).isoformat(timespec="seconds"),
            **({"source": source} if source else {}),
        }
        try:
            with _locked_folder(self._root / name[:2]) as folder:
                return self._store(folder, data, record)
        except OSError as fault:
            if fault.errno in _FULL:
                raise self._full("is full") from fault
            message = "the sample could not be written; send it again later, or contact the operator of the service"
            raise Internal(message, code="inbox_unwritable") from fault

    def _store(self, folder: Path, data: bytes, record: dict[str, Any]) -> Sample:
        photo, description = folder / record["image"], folder / f"{record['sha256']}.json"
        known = _read(description)
        before = known["tags"] if known else ()
        tags = sorted({*before, *(find_class(tag, before) or tag for tag in record["tags"])})
        if len(tags) > _MAX_TAGS:
            message = f"tags: the photo would have {len(tags)} tags, more than {_MAX_TAGS}; send fewer"
            raise Unprocessable(message, code="bad_tags", field="tags", limit=_MAX_TAGS)
        merged = {**(known or record), "image": photo.name, "tags": tags}
        files: dict[Path, bytes] = {}
        if not (known and photo.is_file()):
            files[photo] = data
        if merged != known:
            files[description] = json.dumps(merged, ensure_ascii=False).encode() + b"\n"
        if files:
            self._check_space(sum(map(len, files.values())))
        try:
            for path, content in files.items():
                with atomic_write(path, mode=None, temporary=folder / ".part") as file:
                    file.write(content)
        except OSError:
            if not known:
                with suppress(OSError):
                    photo.unlink(missing_ok=True)
            raise
        # For a repeated photo too: its first writer may have been killed before this.
        for path in (folder, self._root):
            sync_folder(path)
        return Sample(record["sha256"], tuple(tags), created=not known)

    def _check_space(self, size: int) -> None:
        free = shutil.disk_usage(self._root).free
        if free - size < self._min_free_bytes:
            raise self._full(f"has {free:,} bytes free, and {self._min_free_bytes:,} must stay free")

    def _full(self, state: str) -> StorageFull:
        message = f"the disk for samples {state}; send the photo again when the operator of the service has freed space"
        return StorageFull(message, limit=self._min_free_bytes)


def check_tags(tags: Sequence[str]) -> tuple[str, ...]:
    """The tags as class names, sorted, each class once, if a model can learn them all; new classes are allowed.

    Raises Unprocessable, naming the tag and the rule that it breaks, and for no tag at all.
    """
    names = [class_name(tag) for tag in ((tags,) if isinstance(tags, str) else tags)]
    if not names:
        raise Unprocessable("tags: missing; name at least one class in the photo", code="bad_tags", field="tags")
    for name in names:
        if fault := class_name_fault(name):
            limit = MAX_LENGTH if len(name) > MAX_LENGTH else None
            message = f"tags: tag {name[:MAX_LENGTH]!r} {fault}"
            raise Unprocessable(message, code="bad_tags", field="tags", limit=limit)
    return tuple(sorted({class_key(name): name for name in reversed(names)}.values()))


@contextmanager
def _locked_folder(folder: Path) -> Iterator[Path]:
    """Be the only writer in `folder`, made if absent; the half-written file of a killed or failed one is removed."""
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".lock"):
        try:
            yield folder
        finally:
            (folder / ".part").unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any] | None:
    """The description of a sample; None if it is new, or damaged by others."""
    try:
        record = json.loads(read_bytes(path))
    except (FileNotFoundError, UnfitFileError, ValueError, RecursionError):
        return None
    match record:
        case {"tags": list(tags)} if all(isinstance(tag, str) for tag in tags):
            return dict(record)
    return None
