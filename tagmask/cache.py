"""Copies of objects on this machine, in folders of limited size."""

import hashlib
import os
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from tagmask.errors import ConfigError
from tagmask.files import write_bytes

FOLDER, LIMIT = "TAGMASK_CACHE", "TAGMASK_CACHE_BYTES"
"""Variables of the environment: the folder, by default ~/.cache/tagmask, and the maximum size in bytes, by default
10 GB, of all copies of models, and of the copy of each data set."""

_BYTES = 10_000_000_000


def cache_folder(kind: str) -> Path:
    """The folder for copies of a kind, which may be missing."""
    default = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get(FOLDER) or Path(default, "tagmask")) / kind


def cache_limit() -> int:
    """Maximum size of copies in bytes. Raises ConfigError for a setting that is not valid."""
    limit = os.environ.get(LIMIT, "")
    if limit and not (limit.isdecimal() and int(limit)):
        raise ConfigError(f"{LIMIT}={limit}: not a number of bytes above 0; change or unset it")
    return int(limit or _BYTES)


class Cache:
    """Copies of one `kind`, each named by the SHA-256 of its content, which any number of processes may share.

    The copies that were not used for longest are removed when they take more than `max_bytes`. A copy that is in use
    is not lost: an open file stays readable. Raises ConfigError for settings that are not valid.
    """

    def __init__(self, kind: str, max_bytes: int | None = None) -> None:
        self._folder = cache_folder(kind)
        self._max_bytes = max_bytes or cache_limit()

    def get(self, name: str) -> Path | None:
        """The copy `name`, None if there is none, or it is damaged."""
        path = self._folder / name
        try:
            state = path.stat()
            os.utime(path, ns=(time.time_ns(), state.st_mtime_ns))  # used now, and not changed
            return path if _sha256(path, state.st_mtime_ns, state.st_size) == name else None
        except FileNotFoundError:
            return None

    def add(self, name: str, data: bytes) -> Path:
        """Keep `data` as the copy `name`. Raises OSError if the folder cannot be written."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_bytes(self._folder / name, data)
        self._evict(keep=name)
        return self._folder / name

    def _evict(self, keep: str) -> None:
        """Remove the copies beyond the limit; others may do the same at the same time."""
        copies = []
        for path in self._folder.glob("[!.]*"):
            with suppress(FileNotFoundError):
                copies.append((path.stat().st_atime_ns, path.stat().st_size, path))
        size = sum(size for _, size, _ in copies)
        for _, freed, path in sorted(copies):
            if size > self._max_bytes and path.name != keep:
                path.unlink(missing_ok=True)
                size -= freed


@lru_cache(maxsize=1024)
def _sha256(path: Path, changed: int, size: int) -> str:
    """Computed anew when the file has another time of change or size, as `/v1/models` asks for every model."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
