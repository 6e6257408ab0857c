"""The ONNX Runtime session alone: batches of photos, and what its memory settings do with photos of many sizes."""

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import psutil
from numpy.typing import NDArray

from tagmask.cores import cores
from tagmask.session import open_session

BATCHES = (1, 2, 4, 8)
CORES = cores()
_LONG_SIDE = 320
_RUNS = 16
"""Photos, divisible by every batch, in one turn."""
_SIZES = 60
"""Photos of different sizes in one turn."""


def batches(model: Path, rounds: int) -> list[dict[str, Any]]:
    """Milliseconds a photo of 320 x 240, by batch, on one thread and on all cores; and a photo a core at a time."""
    sessions = {threads: _open(model, threads=threads) for threads in sorted({1, CORES})}
    seconds: dict[tuple[int, int, int], list[float]] = {}
    for _ in range(rounds):
        for (threads, session), batch in product(sessions.items(), BATCHES):
            seconds.setdefault((threads, batch, 1), []).append(_batched(session, batch))
        seconds.setdefault((1, 1, CORES), []).append(_side_by_side(sessions[1]))
    return [
        {"threads": threads, "batch": batch, "side_by_side": many, "ms_per_photo": 1000 * statistics.median(each)}
        for (threads, batch, many), each in seconds.items()
    ]


def memory(model: Path, rounds: int) -> list[dict[str, Any]]:
    """ONNX Runtime's arena and memory patterns on and off, each in a process of its own, over photos of many sizes."""
    settings = list(product((True, False), (True, False)))
    turns: dict[tuple[bool, bool], list[tuple[float, int]]] = {each: [] for each in settings}
    with ExitStack() as stack:
        context = get_context("spawn")
        pools = {
            each: stack.enter_context(ProcessPoolExecutor(1, context, _start, (model, *each))) for each in settings
        }
        for number, each in product(range(rounds), settings):
            turns[each].append(pools[each].submit(_mixed, number).result())
    return [
        {
            "arena": arena,
            "memory_pattern": pattern,
            "ms_per_photo": 1000 * statistics.median(seconds for seconds, _ in samples[1:] or samples),
            "rss_mib_first": samples[0][1] / 2**20,
            "rss_mib_last": samples[-1][1] / 2**20,
        }
        for (arena, pattern), samples in turns.items()
    ]


def rate(model: Path, device: str, seconds: float) -> float:
    """Photos of 320 x 240 per second on `device`, one at a time."""
    session, image = open_session(model, device=device), _image(0, _LONG_SIDE * 3 // 4, _LONG_SIDE)
    elapsed, taken = drive(partial(_run, session, image), 1, seconds)
    return len(taken) / elapsed


def drive(call: Callable[[], object], clients: int, seconds: float) -> tuple[float, list[float]]:
    """Seconds that passed, and those of each call that several threads begin, one after the other, within `seconds`."""
    call()
    begun = time.perf_counter()

    def work(_: int) -> list[float]:
        taken = []
        while (start := time.perf_counter()) < begun + seconds:
            call()
            taken.append(time.perf_counter() - start)
        return taken

    with ThreadPoolExecutor(clients) as pool:
        taken = [each for part in pool.map(work, range(clients)) for each in part]
    return time.perf_counter() - begun, taken


def _open(model: Path, threads: int, arena: bool = True, pattern: bool = False) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.enable_cpu_mem_arena = arena
    options.enable_mem_pattern = pattern
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def _batched(session: onnxruntime.InferenceSession, batch: int) -> float:
    """Seconds a photo."""
    image = _image(0, _LONG_SIDE * 3 // 4, _LONG_SIDE, batch)
    _run(session, image)
    begun = time.perf_counter()
    for _ in range(_RUNS // batch):
        _run(session, image)
    return (time.perf_counter() - begun) / _RUNS


def _side_by_side(session: onnxruntime.InferenceSession) -> float:
    """Seconds a photo, one to a core at a time."""
    image = _image(0, _LONG_SIDE * 3 // 4, _LONG_SIDE)
    with ThreadPoolExecutor(CORES) as pool:
        list(pool.map(lambda _: _run(session, image), range(CORES)))
        begun = time.perf_counter()
        list(pool.map(lambda _: _run(session, image), range(_RUNS)))
    return (time.perf_counter() - begun) / _RUNS


_session: onnxruntime.InferenceSession  # a process of `memory` has one


def _start(model: Path, arena: bool, pattern: bool) -> None:
    global _session
    _session = _open(model, 1, arena, pattern)


def _mixed(number: int) -> tuple[float, int]:
    """Seconds a photo, and resident bytes afterwards, for photos of sizes that no turn had before."""
    random = np.random.default_rng(number)
    begun = time.perf_counter()
    for short, upright in zip(random.integers(32, _LONG_SIDE + 1, _SIZES), random.random(_SIZES) < 0.5, strict=True):
        height, width = (_LONG_SIDE, int(short)) if upright else (int(short), _LONG_SIDE)
        _run(_session, _image(number, height, width))
    return (time.perf_counter() - begun) / _SIZES, psutil.Process().memory_info().rss


def _image(seed: int, height: int, width: int, batch: int = 1) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(0, 255, (batch, 3, height, width)).astype(np.float32)


def _run(session: onnxruntime.InferenceSession, image: NDArray[np.float32]) -> None:
    session.run(None, {"image": image})
