"""Contenders that segment photos, loops and servers, and the turns that they take to be measured."""

import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from itertools import cycle
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, Protocol, Self

import numpy as np
import psutil
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from benchmarks.load import Connection, Round, Server, Watch, drive, form
from tagmask.cores import cores

CORES = cores()
_LEAST_PHOTOS, _MOST_PHOTOS = 32, 64

Segment = Callable[[bytes], bytes]
Results = dict[tuple[str, int], list[Round]]
"""Rounds by contender and clients."""


class Contender(Protocol):
    """Anything that makes masks of photos; it is measured with each number of `clients`."""

    clients: tuple[int, ...]

    def answer(self, photo: bytes) -> bytes:
        """The mask of a photo as PNG."""

    def round(self, clients: int, seconds: float) -> Round:
        """Measure for some seconds."""


class Loop:
    """A process that segments one photo after the other, or `side_by_side` in as many threads; it has no clients."""

    clients: tuple[int, ...] = (0,)

    def __init__(self, start: Callable[[], Segment], photos: Sequence[bytes], side_by_side: int = 1) -> None:
        self._side_by_side = side_by_side
        self._process = ProcessPoolExecutor(1, get_context("spawn"), _start_loop, (start, photos))
        self._watched = [psutil.Process(self._process.submit(os.getpid).result())]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.shutdown()

    def answer(self, photo: bytes) -> bytes:
        return self._process.submit(_answer, photo).result()

    def round(self, clients: int, seconds: float) -> Round:
        own = time.process_time()
        with Watch(self._watched) as watch:
            latencies = self._process.submit(_loop, self._side_by_side, seconds).result()
        return Round(latencies, watch.elapsed, watch.cpu, time.process_time() - own, watch.peak)


class Served:
    """A server whose `path` takes a photo as the multipart file `image`."""

    def __init__(self, server: Server, path: str, photos: Sequence[bytes], clients: tuple[int, ...]) -> None:
        self.clients = clients
        self._server, self._path = server, path
        self._requests = [form(path, photo) for photo in photos]

    def answer(self, photo: bytes) -> bytes:
        response = Connection(self._server.port).send(form(self._path, photo))
        if response.status != 200:
            raise RuntimeError(f"status {response.status}: {response.body[:500]!r}")
        return response.body

    def round(self, clients: int, seconds: float) -> Round:
        return drive(self._server, self._requests, clients, seconds)


_segment: Segment  # of a loop's process
_photos: Iterator[bytes]


def _start_loop(start: Callable[[], Segment], photos: Sequence[bytes]) -> None:
    global _segment, _photos
    _segment, _photos = start(), cycle(photos)


def _answer(photo: bytes) -> bytes:
    return _segment(photo)


def _loop(side_by_side: int, seconds: float) -> list[float]:
    """Latencies of as many photos as are segmented in that time."""
    latencies = []
    deadline = time.perf_counter() + seconds

    def work(_: int) -> None:
        while (begun := time.perf_counter()) < deadline:
            _segment(next(_photos))
            latencies.append(time.perf_counter() - begun)

    with ThreadPoolExecutor(side_by_side) as pool:
        list(pool.map(work, range(side_by_side)))
    return latencies


def measure(contenders: dict[str, Contender], seconds: float, rounds: int) -> Results:
    """Rounds in turn, after one that is discarded."""
    results: Results = {}
    for number in range(rounds + 1):
        print(f"round {number} of {rounds}", file=sys.stderr, flush=True)
        for name, contender in contenders.items():
            for clients in contender.clients:
                measured = contender.round(clients, seconds if number else 1)
                if number:
                    results.setdefault((name, clients), []).append(measured)
    return results


def figures(results: Results) -> list[dict[str, Any]]:
    """A row for each contender and number of clients: medians over the rounds, memory is the peak."""
    return [
        {
            "contender": name,
            "clients": clients or None,
            "p50_ms": 1000 * median(np.percentile(each.latencies, 50) for each in rounds),
            "p99_ms": 1000 * median(np.percentile(each.latencies, 99) for each in rounds),
            "per_second": median(each.rate for each in rounds),
            "peak_mib": max(each.peak for each in rounds) / 2**20,
            "cpu_ms": 1000 * median(each.cpu / len(each.latencies) for each in rounds),
            "client_cpu_ms": 1000 * median(each.own_cpu / len(each.latencies) for each in rounds),
            "answers": sum(len(each.latencies) for each in rounds),
        }
        for (name, clients), rounds in results.items()
    ]


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print a table in Markdown."""
    table = Table(*rows[0], box=MARKDOWN)
    for row in rows:
        table.add_row(*map(_cell, row.values()))
    Console(width=200).print(table)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) < 10 else f"{value:,.1f}" if abs(value) < 100 else f"{value:,.0f}"
    return "" if value is None else str(value)


def read_photos(folder: Path) -> list[bytes]:
    """At most 64 photos of `folder`. Exits if there are fewer than 32."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg", ".png"})
    if len(paths) < _LEAST_PHOTOS:
        raise SystemExit(f"{folder}: {len(paths)} photos (.jpg, .png), at least {_LEAST_PHOTOS} are needed; add some")
    print(f"{CORES} cores ({platform.machine()}), {min(len(paths), _MOST_PHOTOS)} photos")
    return [path.read_bytes() for path in paths[:_MOST_PHOTOS]]
