"""Limits on how many requests are admitted, and how many photos are processed at a time."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request

from service.telemetry import IN_WORK, QUEUED
from tagmask.errors import Unavailable

Result = TypeVar("Result")


class ConcurrencyLimit:
    """Admits `concurrent` + `queued` requests at a time, and processes `concurrent` photos at a time.

    Requests beyond this limit are refused at once, so that a load balancer can turn to another instance. A request is
    admitted before its body is read, so that memory is bounded by the number of requests times the size of a body.
    uvicorn's `limit_concurrency` counts connections, probes included, and answers in plain text.
    """

    def __init__(self, concurrent: int, queued: int) -> None:
        self._max_requests = concurrent + queued
        self._requests = 0
        self._free_threads = asyncio.Semaphore(concurrent)
        self._threads = ThreadPoolExecutor(concurrent, thread_name_prefix="photo")

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Count a request while it is processed. Raises Unavailable beyond the limit."""
        if self._requests >= self._max_requests:
            raise Unavailable(
                f"{self._max_requests} requests are being processed or queued; try again in a second",
                limit=self._max_requests,
                headers={"Retry-After": "1"},
            )
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1

    async def run(self, work: Callable[[], Result], request: Request) -> Result:
        """Run `work` in a thread as soon as one is free.

        When the caller is cancelled, such as by a deadline, the thread continues and stays occupied until it is done.
        Raises ClientDisconnect if the client has disconnected while waiting for a thread.
        """
        if self._free_threads.locked():
            await self._wait(request)
        else:
            await self._free_threads.acquire()
        IN_WORK.inc()
        future = asyncio.get_running_loop().run_in_executor(self._threads, copy_context().run, work)
        future.add_done_callback(self._done)
        return await asyncio.shield(future)

    async def _wait(self, request: Request) -> None:
        with QUEUED.track_inprogress():
            await self._free_threads.acquire()
        if await request.is_disconnected():
            self._free_threads.release()
            raise ClientDisconnect

    def _done(self, future: "asyncio.Future[Result]") -> None:
        self._free_threads.release()
        IN_WORK.dec()
        future.cancelled() or future.exception()  # retrieved, or asyncio would warn when nobody awaited the future

    def close(self) -> None:
        """Wait for running threads."""
        self._threads.shutdown(wait=True)
