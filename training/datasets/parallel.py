"""A function over the photos of a data set, several at a time.

Processes are for Python and C++ code (DenseCRF holds the interpreter lock). Each runs single-threaded, as two processes
of two threads each on two cores slow each other down. They are spawned, so what they run must be importable and should
not import torch, which takes longer to load than most photos take.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import islice
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import TypeVar

from tagmask import launch
from tagmask.disk import SHARED_MEMORY, writable
from tagmask.errors import RunError
from tagmask.progress import Advance, silent
from training.datasets.photos import Photo

T = TypeVar("T")

CHUNK = 8
"""Photos per task of the pool."""

_THREAD_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def map_photos(
    work: Callable[[Photo], T], photos: Sequence[Photo], *, pool: Executor, workers: int, advance: Advance = silent
) -> Iterator[T]:
    """Yield `work(photo)` for every photo, in no particular order; the first exception stops the rest and is raised.

    The number of unfinished tasks is bounded, so memory does not grow with the number of photos.
    """
    chunks = (photos[i : i + CHUNK] for i in range(0, len(photos), CHUNK))
    pending: set[Future[list[T]]] = {pool.submit(_run, work, part) for part in islice(chunks, 2 * workers)}
    try:
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            pending |= {pool.submit(_run, work, part) for part in islice(chunks, len(done))}
            for future in done:
                results = future.result()
                advance(len(results))
                yield from results
    finally:
        for future in pending:
            future.cancel()


def map_in_order(
    work: Callable[[Photo], T], photos: Sequence[Photo], *, workers: int, advance: Advance = silent
) -> Iterator[T]:
    """Yield `work(photo)` for every photo, in order, by `workers` processes started for it (1: by this process)."""
    with processes(workers) if workers > 1 else nullcontext() as pool:
        for result in pool.map(work, photos, chunksize=CHUNK) if pool else map(work, photos):
            advance(1)
            yield result


@contextmanager
def processes(workers: int) -> Iterator[Executor]:
    """A pool of `workers` processes, started when they are first needed, each of one thread.

    An exception inside the context, such as Ctrl-C, ends them at once; their files are written atomically.
    Raises RunError if one of them is killed, as happens when memory runs out, and without shared memory.
    """
    others = multiprocessing.active_children()
    try:
        with writable(SHARED_MEMORY):
            executor = ProcessPoolExecutor(workers, _SpawnContext(), start_worker)
        with executor as pool:
            try:
                yield pool
            except BaseException:
                for child in multiprocessing.active_children():
                    if child not in others:
                        child.terminate()
                raise
    except BrokenProcessPool as fault:
        raise RunError(
            f"one of {workers} worker processes was killed{killed_in(fault)}, most likely for lack of memory; "
            "use fewer --workers and --resume"
        ) from fault


def killed_in(fault: BrokenProcessPool) -> str:
    """The stage that a run noted on `fault`, such as " in round 1: labels"; empty without one."""
    return "".join(f" in {note}" for note in getattr(fault, "__notes__", [])[:1])


def single_threaded() -> AbstractContextManager[None]:
    """Processes that are started while the context is open use one thread each."""
    return launch.environment(dict.fromkeys(_THREAD_SETTINGS, "1"))


class _Process(SpawnProcess):
    def start(self) -> None:
        with single_threaded():
            super().start()


class _SpawnContext(SpawnContext):
    Process = _Process


def start_worker() -> None:
    """Initializer of a worker process: it uses one thread, and ends when its parent does."""
    import cv2

    cv2.setNumThreads(1)
    follow_parent()


def follow_parent() -> None:
    """Let this spawned process ignore Ctrl-C, and end when its parent does, however that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it reaches every process; the first one ends the others
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Otherwise a worker would wait forever after its parent was killed."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _run(work: Callable[[Photo], T], photos: Sequence[Photo]) -> list[T]:
    return [work(photo) for photo in photos]
