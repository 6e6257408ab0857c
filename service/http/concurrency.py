"""Limits on how many requests are admitted, and how many photos are processed at a time."""

import asyncio
import ipaddress
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from contextvars import copy_context
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request

from service.activity import doing
from service.http.transfer import Transfer, transfer_of
from service.telemetry import IN_WORK, QUEUED
from tagmask.errors import Unavailable

Result = TypeVar("Result")


class ConcurrencyLimit:
    """Admits `concurrent` + `queued` requests at a time, and processes `concurrent` photos at a time.

    Requests beyond this limit are refused at once, so that a load balancer can turn to another instance. A request has
    its place from before its body is read until its response is sent, so that memory is bounded: all bodies together
    take at most `max_bytes`. When all places or bytes are taken, the client with the most of them gives those of a body
    that is still arriving to a client that has fewer.
    uvicorn's `limit_concurrency` counts connections, probes included, and answers in plain text.
    """

    def __init__(self, concurrent: int, queued: int, max_bytes: int) -> None:
        self._max_requests = concurrent + queued
        self._max_bytes = max_bytes
        self._places: dict[Transfer, str] = {}  # the client of each admitted request
        self._free_threads = asyncio.Semaphore(concurrent)
        self._threads = ThreadPoolExecutor(concurrent, thread_name_prefix="photo")

    def admit(self, request: Request) -> None:
        """Give a request a place until its response is sent. Raises Unavailable beyond the limit.

        Reading its body raises Unavailable beyond `max_bytes`.
        """
        client, transfer = _client(request), transfer_of(request)
        if len(self._places) >= self._max_requests:
            self._displace_for(client)
        self._places[transfer] = client
        transfer.at_receipt(self._limit_bytes)
        transfer.at_end(lambda: self._places.pop(transfer, None))

    def _displace_for(self, client: str) -> None:
        """Free the place of the slowest body of the client that has the most places, if that is fair."""
        counts = Counter(self._places.values())
        busiest, most = counts.most_common(1)[0]
        arriving = self._arriving(busiest)
        if counts[client] + 2 > most or not arriving:
            raise _overloaded(self._max_requests)
        self._displace(min(arriving, key=lambda each: each.received), _overloaded(self._max_requests))

    def _limit_bytes(self, transfer: Transfer) -> None:
        """Free the largest body of the client that has sent the most, or refuse `transfer`, of which more arrived."""
        while transfer in self._places and sum(each.received for each in self._places) > self._max_bytes:
            held = Counter[str]()
            for each, owner in self._places.items():
                held[owner] += each.received
            busiest = held.most_common(1)[0][0]
            arriving = self._arriving(busiest)
            if busiest == self._places[transfer] or not arriving:
                del self._places[transfer]
                raise _overloaded(self._max_bytes, " bytes of")
            self._displace(max(arriving, key=lambda each: each.received), _overloaded(self._max_bytes, " bytes of"))

    def _arriving(self, client: str) -> list[Transfer]:
        return [each for each, owner in self._places.items() if owner == client and not each.complete]

    def _displace(self, transfer: Transfer, refusal: Unavailable) -> None:
        del self._places[transfer]
        transfer.displace(refusal)

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
        path = request.url.path[:200]
        future = asyncio.get_running_loop().run_in_executor(self._threads, copy_context().run, _recorded, work, path)
        future.add_done_callback(self._done)
        return await asyncio.shield(future)

    async def _wait(self, request: Request) -> None:
        with QUEUED.track_inprogress():
            await self._free_threads.acquire()
        with ExitStack() as stack:  # also if the deadline ends just now
            stack.callback(self._free_threads.release)
            if await request.is_disconnected():
                raise ClientDisconnect
            stack.pop_all()

    def _done(self, future: "asyncio.Future[Result]") -> None:
        self._free_threads.release()
        IN_WORK.dec()
        future.cancelled() or future.exception()  # retrieved, or asyncio would warn when nobody awaited the future

    def close(self) -> None:
        """Wait for running threads."""
        self._threads.shutdown(wait=True)


def _recorded(work: Callable[[], Result], path: str) -> Result:
    with doing("work", path):
        return work()


def _overloaded(limit: int, unit: str = "") -> Unavailable:
    message = f"{limit:,}{unit} requests are being processed or queued; try again in a second"
    return Unavailable(message, limit=limit, headers={"Retry-After": "1"})


def _client(request: Request) -> str:
    """The address of the client, or its network in IPv6, where one client has many addresses."""
    host = request.client.host if request.client else ""
    with suppress(ValueError):
        address = ipaddress.ip_address(host)
        return str(ipaddress.ip_network((address, 64), strict=False)) if address.version == 6 else host
    return host
