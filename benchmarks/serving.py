"""What serving costs: the service against a bare loop, a stock BentoML endpoint and FastAPI, on one machine in one run.

    python -m benchmarks.serving MODEL PHOTOS              (latency, throughput, memory; 1 and 8 clients)
    python -m benchmarks.serving MODEL PHOTOS --sweep      (workers, threads and photos at a time; the session alone)

PHOTOS has at least 32 photos. All contenders return the same masks, which is checked first. They take turns in short
rounds, so that other work on the machine affects all of them; figures are medians over the rounds, memory is the peak.
Memory counts shared pages once per process.
"""

import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from io import BytesIO
from itertools import cycle
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Protocol, Self

import numpy as np
import psutil
import typer
from PIL import Image
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from benchmarks import sessions
from benchmarks.command import command_of
from benchmarks.contenders.bare import MODEL, THREADS, Bare
from benchmarks.load import Connection, Round, Server, Watch, drive, form
from tagmask.cores import cores

CLIENTS = (1, 8)
CORES = cores()
LOOP = "bare loop, ONNX Runtime's own threads"
LOOP_ONE = "bare loop, one thread"
LOOP_POOL = f"bare loops side by side in {CORES} threads"
ENGINE = "the service's engine in a loop"
OURS = "the service"
STOCK, STOCK_ONE = "stock BentoML, ONNX Runtime's own threads", "stock BentoML, one thread"
FASTAPI, FASTAPI_ONE = "FastAPI, ONNX Runtime's own threads", "FastAPI, one thread"
_LEAST_PHOTOS, _MOST_PHOTOS, _COMPARED = 32, 64, 5
_AGREEMENT = 0.995
"""Share of a mask's pixels that must be equal to the bare loop's: float32 rounds in different orders at their edges."""

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

    clients: tuple[int, ...] = CLIENTS

    def __init__(self, server: Server, path: str, photos: Sequence[bytes]) -> None:
        self._server, self._path = server, path
        self._requests = [form(path, photo) for photo in photos]

    def answer(self, photo: bytes) -> bytes:
        return Connection(self._server.port).send(form(self._path, photo)).body

    def round(self, clients: int, seconds: float) -> Round:
        return drive(self._server, self._requests, clients, seconds)


def bare(model: Path, threads: int) -> Segment:
    """The bare loop's function."""
    return Bare(model, threads).segment


def engine(model: Path) -> Segment:
    """The service's own work without the server around it."""
    from service.settings import Settings
    from tagmask.segmenter import Segmenter, SegmentOptions

    segmenter = Segmenter.load(model, device="cpu", threads=Settings().threads)
    options = SegmentOptions()
    return lambda data: segmenter.run(data, options, options.format.encode)


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


def compare(model: Path, photos: list[bytes], seconds: float, rounds: int) -> dict[str, Any]:
    """Measure all contenders: the rows of the table, and the criteria."""
    with ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        contenders = _loops(model, photos, stack) | _servers(model, photos, stack, logs)
        _check_masks(contenders, photos[:_COMPARED])
        results = _measure(contenders, seconds, rounds)
    return {"rows": _rows(results), "criteria": _criteria(results)}


def _loops(model: Path, photos: list[bytes], stack: ExitStack) -> dict[str, Contender]:
    starts = {
        LOOP: (partial(bare, model, 0), 1),
        LOOP_ONE: (partial(bare, model, 1), 1),
        LOOP_POOL: (partial(bare, model, 1), CORES),
        ENGINE: (partial(engine, model), 1),
    }
    return {name: stack.enter_context(Loop(start, photos, many)) for name, (start, many) in starts.items()}


def _servers(model: Path, photos: list[bytes], stack: ExitStack, logs: Path) -> dict[str, Contender]:
    stock = ["bentoml", "serve", "benchmarks.contenders.stock:Stock"]
    fast = ["uvicorn", "benchmarks.contenders.fast:app"]
    servers = [
        (OURS, ["bentoml", "serve"], "/v1/segment", "1"),
        (STOCK, stock, "/segment", "0"),
        (STOCK_ONE, stock, "/segment", "1"),
        (FASTAPI, fast, "/segment", "0"),
        (FASTAPI_ONE, fast, "/segment", "1"),
    ]
    path = str(model.resolve())
    contenders: dict[str, Contender] = {}
    for name, command, where, threads in servers:
        settings = {"TAGMASK_MODEL": path, MODEL: path, THREADS: threads}
        server = stack.enter_context(Server(command, logs / f"{len(contenders)}.log", **settings))
        contenders[name] = Served(server, where, photos)
    return contenders


def _check_masks(contenders: dict[str, Contender], photos: Sequence[bytes]) -> None:
    """Raises RuntimeError unless all contenders return the same masks as the bare loop."""
    for photo in photos:
        masks = {name: np.asarray(Image.open(BytesIO(each.answer(photo)))) for name, each in contenders.items()}
        for name, mask in masks.items():
            if mask.shape != masks[LOOP].shape or np.mean(mask == masks[LOOP]) < _AGREEMENT:
                raise RuntimeError(f"{name} returns another mask than the {LOOP}; nothing was measured")


def _measure(contenders: dict[str, Contender], seconds: float, rounds: int) -> Results:
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


def _rows(results: Results) -> list[dict[str, Any]]:
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


def _criteria(results: Results) -> dict[str, Any]:
    """Throughput and overhead, compared round by round: median, minimum and maximum of each."""
    most = max(CLIENTS)
    values: dict[str, list[float]] = {}
    for loop in (LOOP, LOOP_POOL):
        rounds = zip(results[OURS, most], results[loop, 0], strict=True)
        values[f"requests/s, {OURS} at {most} clients / {loop}"] = [a.rate / b.rate for a, b in rounds]
    pairs = (
        (OURS, LOOP),
        (OURS, ENGINE),
        (STOCK, LOOP),
        (FASTAPI, LOOP),
        (STOCK_ONE, LOOP_ONE),
        (FASTAPI_ONE, LOOP_ONE),
    )
    for server, loop in pairs:
        rounds = zip(results[server, 1], results[loop, 0], strict=True)
        values[f"ms per photo at 1 client, {server} - {loop}"] = [
            1000 * (median(a.latencies) - median(b.latencies)) for a, b in rounds
        ]
    for server in (OURS, STOCK, STOCK_ONE, FASTAPI, FASTAPI_ONE):
        rounds = zip(results[server, most], results[LOOP_POOL, 0], strict=True)
        values[f"ms per photo at {most} clients, {server} - {LOOP_POOL}"] = [
            1000 / a.rate - 1000 / b.rate for a, b in rounds
        ]
    return {name: (median(each), min(each), max(each)) for name, each in values.items()}


def compare_settings(model: Path, photos: list[bytes], seconds: float, rounds: int) -> dict[str, Any]:
    """The service with other workers, threads and photos at a time, and the session alone."""
    with ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        contenders: dict[str, Contender] = {}
        for workers, threads, concurrent in _combinations():
            settings = {
                "TAGMASK_MODEL": str(model.resolve()),
                "TAGMASK_WORKERS": str(workers),
                "TAGMASK_THREADS": str(threads),
                "TAGMASK_MAX_CONCURRENT": str(concurrent),
            }
            name = f"{workers} workers, {threads} threads, {concurrent} photos at a time"
            server = stack.enter_context(Server(["bentoml", "serve"], logs / f"{name}.log", **settings))
            contenders[name] = Served(server, "/v1/segment", photos)
        rows = _rows(_measure(contenders, seconds, rounds))
    return {"rows": rows, "batches": sessions.batches(model, rounds), "memory": sessions.memory(model, rounds)}


def _combinations() -> list[tuple[int, int, int]]:
    n = CORES
    return sorted({(1, 1, 1), (1, 1, n), (1, 1, 2 * n), (1, n, 1), (1, n, n), (n, 1, 1), (n, 1, n)})


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


def _read(folder: Path) -> list[bytes]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg", ".png"})
    if len(paths) < _LEAST_PHOTOS:
        raise SystemExit(f"{folder}: {len(paths)} photos (.jpg, .png), at least {_LEAST_PHOTOS} are needed; add some")
    return [path.read_bytes() for path in paths[:_MOST_PHOTOS]]


def main(
    model: Path,
    photos: Path,
    seconds: Annotated[float, typer.Option(help="Length of a contender's turn.")] = 5,
    rounds: Annotated[int, typer.Option(help="Turns of each contender.")] = 7,
    sweep: Annotated[bool, typer.Option("--sweep", help="Compare the service's settings, not contenders.")] = False,
    out: Annotated[Path | None, typer.Option(help="JSON file to write all figures to.")] = None,
) -> None:
    """Run the chosen comparison."""
    read = _read(photos)
    print(f"{CORES} cores ({platform.machine()}), {len(read)} photos, {rounds} rounds of {seconds:g} s")
    figures = (compare_settings if sweep else compare)(model, read, seconds, rounds)
    for name, table in figures.items():
        if name != "criteria":
            show(table)
    for name, value in figures.get("criteria", {}).items():
        print(f"{name}: " + "{:.2f} ({:.2f} to {:.2f})".format(*value))
    if out:
        out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    command_of(main)()
