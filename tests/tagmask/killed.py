"""A process that is killed before one of its operations on files."""

import itertools
import os
import signal
import sys

OPERATIONS = ("open", "os.mkdir", "os.rename", "os.remove", "fcntl.flock")


def die_before(step: int) -> None:
    """Have this process killed before its `step`-th operation from now on, the first being 1."""
    left = itertools.count(step, -1)

    def hook(event: str, arguments: object) -> None:
        if event in OPERATIONS and next(left) == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
