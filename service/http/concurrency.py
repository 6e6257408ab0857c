"""How many requests are let in, and how many photos are in work at a time."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request

from service.telemetry import IN_WORK, QUEUED
from tagmask.errors import Unavailable

Answer = TypeVar("Answer")


class ConcurrencyLimit:
    """Lets in `concurrent` + `queued` requests at a time, and works on `concurrent` photos at a time.

    Who comes on top is refused at once, so that a load balancer can turn to another instance. A request takes its
    place before its body is read, so that memory is bounded by places times body bytes.
    """

    def __init__(self, concurrent: int, queued: int) -> None:
        self._places = concurrent + queued
        self._taken = 0
        self._free = asyncio.Semaphore(concurrent)
        self._threads = ThreadPoolExecutor(concurrent, thread_name_prefix="photo")

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place for one request. Raises Unavailable when all are taken."""
        if self._taken >= self._places:
            raise Unavailable(
                f"{self._places} requests are in work or waiting; try again in a second",
                limit=self._places,
                headers={"Retry-After": "1"},
            )
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1

    async def run(self, work: Callable[[], Answer], request: Request) -> Answer:
        """Run `work` in a thread as soon as one is free, unless who sent `request` has gone away by then.

        Who stops waiting, by a time limit, leaves the thread at work, and it stays taken until it is done.
        Raises ClientDisconnect.
        """
        if self._free.locked():
            await self._wait(request)
        else:
            await self._free.acquire()
        IN_WORK.inc()
        future = asyncio.get_running_loop().run_in_executor(self._threads, copy_context().run, work)
        future.add_done_callback(self._done)
        return await asyncio.shield(future)

    async def _wait(self, request: Request) -> None:
        with QUEUED.track_inprogress():
            await self._free.acquire()
        if await request.is_disconnected():
            self._free.release()
            raise ClientDisconnect

    def _done(self, future: "asyncio.Future[Answer]") -> None:
        self._free.release()
        IN_WORK.dec()
        future.cancelled() or future.exception()  # looked at, so that nobody warns of it when nobody waited

    def close(self) -> None:
        """Wait for the threads at work."""
        self._threads.shutdown(wait=True)
