"""What is said when the workspace cannot be written."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tagmask.errors import RunError

FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Raise RunError, naming `folder` and the remedy, for any OSError while the context is open."""
    try:
        yield
    except OSError as fault:
        remedy = "make room on its disk" if fault.errno in FULL else "let this process write there"
        raise RunError(f"{folder}: cannot be written ({fault.strerror}); {remedy} and start again") from fault
