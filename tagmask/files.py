"""Files that are either complete or absent, and locks between processes.

A file is written beside its place under a temporary name and then renamed over it, so a process that is killed at any
point leaves the old file or the new one, never half of one.
"""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeVar

import numpy as np
from filelock import FileLock, Timeout
from PIL import Image
from pydantic import BaseModel, ValidationError

from tagmask.errors import TagmaskError

_PART = ".part"
_Model = TypeVar("_Model", bound=BaseModel)


@contextmanager
def atomic_write(
    path: Path, *, durable: bool = False, mode: int | None = 0o644, temporary: Path | None = None
) -> Iterator[IO[bytes]]:
    """Open `path` for binary writing; it appears under its name when the block ends without an exception.

    Missing parent folders are made. On an exception the temporary file is removed and `path` is as it was. If
    `durable`, the new name too is on the disk at the end. `mode` None leaves the permissions to the umask. `temporary`
    is for a writer that holds a lock: it replaces what a killed writer left under that name.
    """
    if not path.parent.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
    part = temporary or path.with_name(f".{path.name}.{secrets.token_hex(4)}{_PART}")
    try:
        with part.open("wb" if temporary else "xb") as file:
            yield file
            file.flush()
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def unfinished(folder: Path) -> Iterator[Path]:
    """Temporary files that a killed process left in `folder`, or that another is writing."""
    return folder.glob(f".*{_PART}")


def remove_unfinished(folder: Path) -> None:
    """Remove the temporary files of killed processes below `folder`, in which no other process may be writing."""
    for path in folder.rglob(f".*{_PART}"):
        path.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Write `data`."""
    with atomic_write(path, durable=durable) as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8."""
    write_bytes(path, text.encode())


def write_png(path: Path, image: Image.Image) -> None:
    """Write a Pillow image as PNG."""
    with atomic_write(path) as file:
        image.save(file, format="PNG", compress_level=3)


def write_array(path: Path, array: np.ndarray) -> None:
    """Write one array as `.npy`."""
    with atomic_write(path) as file:
        np.save(file, array, allow_pickle=False)


def read_model(path: Path, model: type[_Model], *, error: type[TagmaskError], remedy: str) -> _Model | None:
    """The JSON document at `path`, None if it does not exist.

    Raises `error`, with the `remedy` for a damaged one, when it cannot be read or is not a `model`.
    """
    try:
        return model.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as fault:
        raise error(f"{path}: cannot be read ({fault.strerror}); grant this process read access") from fault
    except ValidationError as fault:
        first = fault.errors()[0]
        name = "".join(f" {part}" for part in first["loc"])
        raise error(f"{path}: damaged{name} ({first['msg']}); {remedy}") from fault


def sync_folder(folder: Path) -> None:
    """Wait until the names in `folder` are on the disk, and last across a power cut. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock file `path`, made if absent, against all other processes and threads.

    The system releases it when this process ends, however it ends. Raises BlockingIOError when it is held and `wait`
    is false, and OSError when the file cannot be opened.
    """
    try:
        lock = FileLock(path).acquire(poll_interval=0.01, blocking=wait)
    except Timeout as fault:
        raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK), str(path)) from fault
    with lock:
        yield
