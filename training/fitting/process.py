"""Threads of a process that trains on a CPU. This changes the speed alone; it is measured in benchmarks/README.md."""

import os


def spin_briefly() -> None:
    """Let OpenMP threads spin for some microseconds while they wait for work, then sleep.

    By default GNU's library lets them spin for milliseconds, which takes the cores from other processes; without
    spinning they miss the next piece of work, of which a training step has thousands. The setting is read when torch is
    first imported, and inherited by processes that are started later. A value that the user has set is kept.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # some microseconds
