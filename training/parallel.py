"""One function over many photos, in several processes.

Processes, not threads: DenseCRF holds the interpreter lock. Each runs single-threaded, as two processes of two threads
each on two cores stall one another. They are started afresh ("spawn"), so what they run must be importable and should
not need torch.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

from training.data.photos import Photo

T = TypeVar("T")

CHUNK = 8
"""Photos handed to a process at once."""

_THREAD_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def available_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_photos(
    work: Callable[[Photo], T],
    photos: Sequence[Photo],
    *,
    workers: int,
    advance: Callable[[int], None] = lambda photos: None,
) -> Iterator[T]:
    """Yield `work(photo)` for every photo, in no particular order; the first exception stops the rest and is raised.

    With one worker nothing is started and calls run here, in order. Work handed out but not yet done is bounded, so
    memory does not grow with the number of photos.
    """
    if workers == 1 or len(photos) <= CHUNK:
        for photo in photos:
            yield work(photo)
            advance(1)
        return
    chunks = (photos[i : i + CHUNK] for i in range(0, len(photos), CHUNK))
    with _single_threaded(), ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start) as pool:
        try:
            pending: set[Future[list[T]]] = {pool.submit(_run, work, part) for part in islice(chunks, 2 * workers)}
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                pending |= {pool.submit(_run, work, part) for part in islice(chunks, len(done))}
                for future in done:
                    results = future.result()
                    advance(len(results))
                    yield from results
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@contextmanager
def _single_threaded() -> Iterator[None]:
    """Let processes started meanwhile use one thread each in numerical libraries."""
    before = {name: os.environ.get(name) for name in _THREAD_SETTINGS}
    os.environ.update(dict.fromkeys(_THREAD_SETTINGS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _start() -> None:
    import cv2

    cv2.setNumThreads(1)


def _run(work: Callable[[Photo], T], photos: Sequence[Photo]) -> list[T]:
    return [work(photo) for photo in photos]
