"""The bodies of a request and of its response on their way, each within time limits, which hold on every route."""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack, suppress

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from service.http.deadline import Deadline
from tagmask.errors import BodyTimeout, RequestError, Unavailable

_GRACE = 5.0  # seconds before a body must have arrived at the least rate, and for a response after the deadline
_LEAST_RATE = 1000  # bytes of a body per second
_PIECE = 65_536  # bytes of a response sent at a time, so that one that nobody reads is not copied into buffers
_DRAIN_SECONDS, _DRAIN_PAUSE = 10.0, 1.0  # at most, for all of a refused body and for each of its pieces
_KEY = "tagmask.transfer"


class Abandoned(Exception):  # noqa: N818, as it is not an error of the service
    """The client did not read the response in time; the connection must be aborted."""


class Transfer:
    """One request's transfer; `complete` is whether its body has arrived, `received` the number of bytes so far."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, deadline: Deadline, max_discarded: int) -> None:
        """Put the transfer into `scope`. At most `max_discarded` bytes of a refused body are read and discarded."""
        self.deadline = deadline
        self.complete = False
        self.received = 0
        self._receive, self._send = receive, send
        self._max_discarded = max_discarded
        self._begun = asyncio.get_running_loop().time()
        self._timeout: asyncio.Timeout | None = None
        self._refusal: RequestError | None = None
        self._send_by = deadline.time
        self._waits_for_continue = "100-continue" in Headers(scope=scope).get("expect", "").lower()
        self._at_receipt: Callable[[Transfer], None] = lambda _: None
        self._at_end = ExitStack()
        scope[_KEY] = self

    async def receive(self) -> Message:
        """The next message. Raises BodyTimeout when the body is late or slow, and Unavailable when it was displaced."""
        if self.complete:
            return await self._receive()
        self._waits_for_continue = False
        limit = min(self.deadline.time, self._begun + _GRACE + self.received / _LEAST_RATE)
        try:
            async with asyncio.timeout_at(0 if self._refusal else limit) as self._timeout:
                message = await self._receive()
        except TimeoutError:
            self._refusal = self._refusal or self._late()
            raise self._refusal from None
        self.received += len(message.get("body", b""))
        self._at_receipt(self)
        self.complete = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Send in pieces, after the rest of the request's body. Raises Abandoned if that takes too long."""
        if message["type"] == "http.response.start":
            await self._finish_body(message)
            self._send_by = max(self.deadline.time, asyncio.get_running_loop().time() + _GRACE)
        body = memoryview(message.get("body", b""))
        try:
            async with asyncio.timeout_at(self._send_by):
                for start in range(0, len(body) - _PIECE, _PIECE):
                    await self._send({**message, "body": bytes(body[start : start + _PIECE]), "more_body": True})
                rest = (len(body) - 1) // _PIECE * _PIECE if body else 0
                await self._send({**message, "body": bytes(body[rest:])} if body else message)
        except TimeoutError:
            raise Abandoned from None

    def displace(self, refusal: Unavailable) -> None:
        """Stop waiting for the body, in favour of another request."""
        self._refusal = refusal
        if self._timeout is not None:
            self._timeout.reschedule(0)

    def at_receipt(self, callback: Callable[["Transfer"], None]) -> None:
        """Call `callback` when a part of the body has arrived; what it raises, `receive` raises."""
        self._at_receipt = callback

    def at_end(self, callback: Callable[[], object]) -> None:
        """Call `callback` when the response has been sent."""
        self._at_end.callback(callback)

    def end(self) -> None:
        """The response has been sent, or never will be."""
        self._at_end.close()

    async def _finish_body(self, message: Message) -> None:
        """Discard what is left of the body: proxies and many clients send all of it before they read a response."""
        if self._waits_for_continue and not self.complete:
            MutableHeaders(scope=message)["Connection"] = "close"
        elif self._refusal is None:
            most = self.received + self._max_discarded
            with suppress(TimeoutError, RequestError):
                async with asyncio.timeout(_DRAIN_SECONDS):
                    while not self.complete and self.received < most:
                        async with asyncio.timeout(_DRAIN_PAUSE):
                            await self.receive()

    def _late(self) -> BodyTimeout:
        if asyncio.get_running_loop().time() >= self.deadline.time:
            limit, why = self.deadline.seconds, f"the body did not arrive within {self.deadline.seconds:g} seconds"
        else:
            limit, why = _LEAST_RATE, f"the body arrived at less than {_LEAST_RATE:,} bytes per second"
        message = f"{why}; send a smaller photo, or over a faster connection"
        return BodyTimeout(message, limit=limit, headers={"Connection": "close"})


def transfer_of(request: Request) -> Transfer:
    """The transfer of a request."""
    transfer = request.scope[_KEY]
    assert isinstance(transfer, Transfer)
    return transfer
