"""Memory that is freed goes back to the system; glibc would keep it, fragmented. Other C libraries are left alone."""

import ctypes
from contextlib import suppress

_M_MMAP_THRESHOLD = -3  # malloc.h
_LARGE = 4_000_000  # bytes: larger than most blocks of a photo at its working size


def return_large_blocks() -> None:
    """From now on return each block of some megabytes as soon as it is freed, such as a decoded photo.

    Otherwise glibc raises its own threshold with each such block that is freed, and keeps the blocks. See mallopt(3).
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").mallopt(_M_MMAP_THRESHOLD, _LARGE)


def return_free_memory() -> None:
    """Return what is free now. See malloc_trim(3)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
