"""How long the command line and the service take to start, and the service's memory at rest.

    python -m benchmarks.start

The service is that of the model that Tagmask comes with, started by `tagmask serve`. CPU seconds are those of all
processes. Memory, which only Linux tells, is the proportional set size (PSS), in which a page that processes share
counts once in all, those of other programs included: it is less while others use the same libraries. Memory alone is
what the service would take without them. To measure without bytecode, set PYTHONDONTWRITEBYTECODE=1 and
PYTHONPYCACHEPREFIX to an empty folder.
"""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated

import httpx
import psutil
import typer

from benchmarks.command import command_of
from benchmarks.load import Server

_PHOTO = Path(__file__).parents[1] / "service/page/samples/cat.jpg"
_REST_S = 25.0
"""Seconds without requests before memory is measured; the service returns the memory of photos after ten to twenty."""

Figures = dict[str, float]


def help_figures() -> Figures:
    """Of one `tagmask --help`."""
    before, begun = os.times(), time.perf_counter()
    subprocess.run([Path(sys.executable).with_name("tagmask"), "--help"], stdout=subprocess.DEVNULL, check=True)
    seconds, after = time.perf_counter() - begun, os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return {"seconds": seconds, "CPU seconds": cpu}


def service_figures(folder: Path) -> Figures:
    """Of one start of the service, to its first mask; `folder` is for its log."""
    begun = time.perf_counter()
    with Server(["tagmask", "serve"], folder / "log") as server:
        url = f"http://127.0.0.1:{server.port}/v1/segment"
        headers = {"Content-Type": "image/jpeg"}
        httpx.post(url, content=_PHOTO.read_bytes(), headers=headers, trust_env=False, timeout=60).raise_for_status()
        seconds = time.perf_counter() - begun
        cpu = sum(sum(process.cpu_times()[:4]) for process in server.tree)  # with those of children that have ended
        time.sleep(_REST_S)
        pss = sum(process.memory_full_info().pss for process in server.tree)
        alone = memory_alone(server.tree)
    memory = {"PSS in MiB": pss / 2**20, "MiB alone": alone / 2**20}
    return {"seconds": seconds, "CPU seconds": cpu, **memory}


def memory_alone(processes: Iterable[psutil.Process]) -> int:
    """Bytes of the anonymous pages of `processes`, and of those of files: of each, as the process that has most."""
    anonymous, files = 0, Counter[str]()
    for process in processes:
        mapped = process.memory_maps()
        anonymous += sum(each.anonymous for each in mapped)
        files |= Counter({each.path: each.rss - each.anonymous for each in mapped})
    return anonymous + files.total()


def main(runs: Annotated[int, typer.Option(min=1, help="Starts of each; medians are printed.")] = 5) -> None:
    with TemporaryDirectory() as folder:
        measured = {
            "tagmask --help": [help_figures() for _ in range(runs)],
            "tagmask serve, to the first mask": [service_figures(Path(folder)) for _ in range(runs)],
        }
    for name, figures in measured.items():
        medians = (f"{median(each[unit] for each in figures):.2f} {unit}" for unit in figures[0])
        print(f"{name}: {', '.join(medians)}")


if __name__ == "__main__":
    command_of(main)()
