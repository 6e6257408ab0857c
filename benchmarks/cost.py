"""A `tagmask` command in a process of its own, and what it costs."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

TAGMASK = Path(sys.executable).with_name("tagmask")


@dataclass(frozen=True)
class Cost:
    """Wall and CPU seconds of a process with all its children, and the peak RSS in MiB of the largest of them."""

    wall: float
    cpu: float
    peak: float


def run_tagmask(*arguments: str, **environment: str) -> Cost:
    """Run the command, with variables added to the environment. Exits if it fails."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        [TAGMASK, "--quiet", *arguments], stdout=subprocess.DEVNULL, env={**os.environ, **environment}
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"tagmask {' '.join(arguments)}: exit code {process.returncode}")
    return Cost(time.perf_counter() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)
