"""How a process that trains on a CPU uses its threads and its memory; a GPU does without either.

Both change the speed alone, nothing that is learned. Figures are in benchmarks/README.md.
"""

import ctypes
import os
from collections.abc import Callable

BRIEF_SPIN = "10000"
"""Turns that a thread of OpenMP waits awake: some microseconds."""

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


def spin_briefly() -> None:
    """Have threads of OpenMP wait for their next piece of work awake for some microseconds, then asleep.

    By itself, GNU's library keeps them awake for milliseconds, which takes the cores from whatever else runs; asleep at
    once, they miss the next piece, as a training step has thousands. It is read when torch is first imported, and goes
    on to processes that are started later. What the user set is left as it is.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", BRIEF_SPIN)


def keep_freed_memory() -> None:
    """Have glibc keep what this process frees for what it asks for next; does nothing where there is no glibc.

    PyTorch asks for each tensor anew. By itself, glibc takes large ones from the system and gives them back, so that
    every step pays again for hundreds of thousands of fresh pages. See mallopt(3).
    """
    mallopt = _glibc("mallopt")
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, -1)


def release_freed_memory() -> None:
    """Give back now what was kept. See malloc_trim(3)."""
    _glibc("malloc_trim")(0)


def _glibc(name: str) -> Callable[..., object]:
    """A function of glibc; elsewhere one that does nothing."""
    return getattr(ctypes.CDLL(None), name, lambda *_: 0) if os.name == "posix" else lambda *_: 0
