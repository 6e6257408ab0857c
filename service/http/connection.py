"""Connections: uvicorn's, with limits on their time and number, which uvicorn has only between two requests."""

import resource
from asyncio import Transport
from typing import Any

import h11
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from service.http import problems
from service.http.transfer import Abandoned
from tagmask.errors import BadRequest

IDLE_SECONDS = 10.0
"""How long a connection may be without a request in progress: silent, in the middle of a head, with a response that
nobody reads, or with the rest of a body whose response has been sent."""

_MAX_CONNECTIONS = 10_000  # and at most half of the file descriptors that the process may have


class Connection(H11Protocol):
    """A connection to one client."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Takes the arguments of uvicorn's protocols."""
        super().__init__(*arguments, **options)
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        unlimited = descriptors == resource.RLIM_INFINITY  # which may be -1
        self._limit = _MAX_CONNECTIONS if unlimited else min(_MAX_CONNECTIONS, descriptors // 2)
        self._idle: Any = None
        self._respond, self.app = self.app, self._respond_or_abort

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Accept the connection, in place of the one that is idle longest if there are too many."""
        super().connection_made(transport)
        self._watch()
        if len(self.connections) > self._limit:
            idle = [each for each in self.connections if isinstance(each, Connection) and each._idle is not None]
            min(idle, key=lambda each: each._idle.when()).abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        super().connection_lost(exc)
        self._stop()

    def data_received(self, data: bytes) -> None:
        """Read a part of a head or body."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._watch()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP as all other errors are; in the middle of a response, only close the connection."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            message = "this is not HTTP/1.1, or the head of the request is too long; use an HTTP client"
            problem = problems.response(BadRequest(message, code="bad_http"), path="")
            start = h11.Response(status_code=400, headers=[*problem.raw_headers, (b"connection", b"close")])
            for event in (start, h11.Data(data=bytes(problem.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event))
        self.transport.close()

    def _should_upgrade(self) -> bool:
        """No: a request to upgrade to another protocol, such as WebSocket, is answered in this one."""
        return False

    def abort(self) -> None:
        """Close the connection without waiting for the client."""
        self._stop()
        if self.cycle is not None:
            self.cycle.disconnected = True
        self.transport.abort()

    def _watch(self) -> None:
        """Start the time limit, or stop it while a request is in progress."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop()
        elif self._idle is None:
            self._idle = self.loop.call_later(IDLE_SECONDS, self.abort)

    def _stop(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    async def _respond_or_abort(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_if_connected(message: Message) -> None:
            # uvicorn would make the rest of the response for nobody, without a pause in which it learns of that
            if self.cycle.disconnected or self.transport.is_closing():
                raise ClientDisconnect
            await send(message)

        try:
            await self._respond(scope, receive, send_if_connected)
        except Abandoned:
            self.abort()
        except ClientDisconnect:
            pass
