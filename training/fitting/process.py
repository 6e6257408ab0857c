"""Threads and memory of a process that trains on a CPU.

Both settings change the speed alone, not the result. Measurements are in benchmarks/README.md.
"""

import ctypes
import os
from collections.abc import Callable

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


def spin_briefly() -> None:
    """Let OpenMP threads spin for some microseconds while they wait for work, then sleep.

    By default GNU's library lets them spin for milliseconds, which takes the cores from other processes; without
    spinning they miss the next piece of work, of which a training step has thousands. The setting is read when torch is
    first imported, and inherited by processes that are started later. A value that the user has set is kept.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # some microseconds


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next allocation; does nothing without glibc.

    PyTorch allocates each tensor anew. By default glibc takes large ones from the system and returns them, so every
    step pays again for hundreds of thousands of fresh pages. See mallopt(3).
    """
    mallopt = _glibc("mallopt")
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, -1)


def release_freed_memory() -> None:
    """Return kept memory to the system now. See malloc_trim(3)."""
    _glibc("malloc_trim")(0)


def _glibc(name: str) -> Callable[..., object]:
    """A function of glibc; elsewhere one that does nothing."""
    return getattr(ctypes.CDLL(None), name, lambda *_: 0) if os.name == "posix" else lambda *_: 0
