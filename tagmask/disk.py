"""Errors for files that cannot be written, in one wording."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from tagmask.errors import RunError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_FOLDER = (errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG)
UNWRITABLE = (*_FULL, errno.EROFS, errno.EACCES, errno.EPERM, *_NO_FOLDER)
"""Error numbers of a full disk, a read-only file system, missing permissions, and what is not a folder."""


def unwritable(path: object, error: OSError) -> RunError:
    """The RunError for `error` when writing `path`, with the remedy."""
    remedy = "free disk space" if error.errno in _FULL else "grant this process write access"
    if error.errno in _NO_FOLDER:
        remedy = "choose another folder"
    return RunError(f"{path}: cannot be written ({error.strerror}); {remedy} and start again")


@contextmanager
def writable(place: object) -> Iterator[None]:
    """Turn the OSErrors of UNWRITABLE that are raised in the context into a RunError that names `place`."""
    try:
        yield
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        raise unwritable(place, error) from error
