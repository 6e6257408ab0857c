"""How many cores this process may use."""

import os
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def cores(quota: Path = _QUOTA) -> int:
    """Cores that this process may use: those it is bound to, or fewer by a container's limit (cgroup v2's cpu.max)."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        allowed, period = map(int, quota.read_text(encoding="ascii").split())
    except (OSError, ValueError):  # no cgroup v2, or "max": no limit
        return bound
    return max(1, min(bound, round(allowed / period)))
