"""Tries a bundle in a child process, which can be ended: a network may run for ever, crash, or take all memory.

    python -P tagmask/launch.py tagmask.trial SECONDS DEVICE GPU_MEMORY FILE [SHA256]

The child is ended by the alarm that it sets, even if its parent is gone.
"""

import asyncio
import resource
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path

from tagmask import launch
from tagmask.bundle import read_bundle
from tagmask.errors import BundleError, ConfigError
from tagmask.network import WARM_UP_SECONDS, Network, not_warm
from tagmask.session import has_cuda

_MAX_MEMORY = 8 * 2**30  # bytes, without CUDA, whose driver reserves any amount
_REFUSED, _NO_DEVICE = 2, 3  # exit statuses; standard output has the message


async def try_bundle(
    path: Path, sha256: str | None = None, device: str = "auto", gpu_memory: int | None = None
) -> None:
    """Read, check and warm up the bundle at `path` in a child process, as `read_bundle` and `Network` do.

    Raises BundleError, naming the file, when one of them does, and when the child crashes, takes longer than
    WARM_UP_SECONDS or needs more than 8 GiB of memory; ConfigError for the device.
    """
    limits = (str(WARM_UP_SECONDS), device, str(gpu_memory or ""))
    command = launch.command("tagmask.trial", *limits, path, *([sha256] if sha256 else []))
    child = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=DEVNULL)
    try:
        message = (await child.communicate())[0].decode(errors="replace")
    finally:
        if child.returncode is None:
            child.kill()
            await child.communicate()
    if child.returncode == -signal.SIGALRM:
        raise not_warm(path)
    if child.returncode in (_REFUSED, _NO_DEVICE):
        raise (BundleError if child.returncode == _REFUSED else ConfigError)(message)
    if child.returncode:
        how = signal.Signals(-child.returncode).name if child.returncode < 0 else f"status {child.returncode}"
        raise BundleError(f"{path}: the network ends the process that runs it ({how}); export it again")


def _main(seconds: str, device: str, gpu_memory: str, path: str, sha256: str | None = None) -> int:
    signal.setitimer(signal.ITIMER_REAL, float(seconds))
    if not has_cuda():
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (_MAX_MEMORY, hard))
    try:
        Network(read_bundle(Path(path), sha256), device, None, float(seconds), int(gpu_memory) if gpu_memory else None)
    except (BundleError, ConfigError) as fault:
        sys.stdout.write(str(fault))
        return _REFUSED if isinstance(fault, BundleError) else _NO_DEVICE
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
