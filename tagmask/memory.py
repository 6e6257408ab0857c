"""What glibc does with memory that is freed. Other C libraries are left alone."""

import ctypes
import os
from collections.abc import Callable

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4  # malloc.h
_LARGE = 4_000_000  # bytes: larger than most blocks of a photo at its working size
_KEPT = 2 * _LARGE  # bytes at the end of a heap that are kept: those blocks, which are needed again for the next photo


def keep_freed_memory() -> None:
    """Keep freed memory for the next allocation.

    PyTorch allocates each tensor anew. By default glibc takes large ones from the system and returns them, so every
    step pays again for hundreds of thousands of fresh pages. See mallopt(3).
    """
    mallopt = _glibc("mallopt")
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, -1)


def return_large_blocks() -> None:
    """From now on return each block of some megabytes as soon as it is freed, such as a decoded photo.

    Otherwise glibc raises its own threshold with each such block that is freed, and keeps the blocks, fragmented. With
    a threshold that is set, it returns smaller ones too, and each photo pays for a thousand fresh pages: a tenth of its
    time. So some of these are kept.
    """
    mallopt = _glibc("mallopt")
    mallopt(_M_MMAP_THRESHOLD, _LARGE)
    mallopt(_M_TRIM_THRESHOLD, _KEPT)


def return_freed_memory() -> None:
    """Return what is free now to the system. See malloc_trim(3)."""
    _glibc("malloc_trim")(0)


def _glibc(name: str) -> Callable[..., object]:
    """A function of glibc; elsewhere one that does nothing."""
    return getattr(ctypes.CDLL(None), name, lambda *_: 0) if os.name == "posix" else lambda *_: 0
