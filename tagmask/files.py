"""Files that are either whole or absent.

A file is written beside its place under a temporary name and then renamed over it, so a process that is killed at any
point leaves the old file or the new one, never half of one.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open `path` for binary writing; it appears under its name when the block ends without an exception.

    Missing parent folders are made. On an exception the temporary file is removed and `path` is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.chmod(0o644)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def remove_unfinished(folder: Path) -> None:
    """Remove what a killed process left of its writing anywhere below `folder`; nobody else may be writing there."""
    for path in folder.rglob(".*.part"):
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8."""
    with atomic_write(path) as file:
        file.write(text.encode())


def write_png(path: Path, image: Image.Image) -> None:
    """Write a Pillow image as PNG."""
    with atomic_write(path) as file:
        image.save(file, format="PNG", compress_level=3)


def write_array(path: Path, array: np.ndarray) -> None:
    """Write one array as `.npy`."""
    with atomic_write(path) as file:
        np.save(file, array, allow_pickle=False)


def sync_folder(folder: Path) -> None:
    """Wait until the names in `folder` are on the disk, and last across a power cut. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
