"""Errors for files that cannot be written, in one wording."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from tagmask.errors import RunError

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers of a full disk."""

_UNFIT = (errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EFBIG)
UNWRITABLE = (*FULL, errno.EROFS, errno.EACCES, errno.EPERM, *_UNFIT)
"""Error numbers of a full disk, a read-only file system, missing permissions, and folders that cannot take a file."""

SHARED_MEMORY = "shared memory (/dev/shm)"
"""For `writable`: where processes keep the semaphores and batches that they share."""


def write_fault(error: OSError) -> str:
    """Why a file could not be written, and what to do."""
    remedy = "free disk space" if error.errno in FULL else "grant this process write access"
    if error.errno in _UNFIT:
        remedy = "choose another folder"
    return f"cannot be written ({error.strerror}); {remedy}"


def unwritable(path: object, error: OSError) -> RunError:
    """The RunError for `error` when writing `path`, with the remedy."""
    return RunError(f"{path}: {write_fault(error)} and start again")


@contextmanager
def writable(place: object) -> Iterator[None]:
    """Turn the OSErrors of UNWRITABLE that are raised in the context into a RunError that names `place`."""
    try:
        yield
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        raise unwritable(place, error) from error


@contextmanager
def temporary_files() -> Iterator[None]:
    """Turn the error of `tempfile` in the context, that none of its folders can be written, into a RunError."""
    try:
        yield
    except FileNotFoundError as error:
        if not (error.strerror or "").startswith("No usable temporary directory"):
            raise
        remedy = "free disk space in one of them, or set TMPDIR to a folder that this process can write"
        raise RunError(f"{error.strerror}; {remedy}") from error
