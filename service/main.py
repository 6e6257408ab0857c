"""The BentoML service, which `bentoml serve` runs.

BentoML supervises the workers, their socket and their signals. Our own ASGI application, in front of BentoML's routes,
handles every request, as BentoML's image inputs neither limit nor validate what clients send.
"""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")

import bentoml
import bentoml.exceptions
import click
import cv2
from bentoml._internal.utils.analytics import usage_stats
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.config import HTTP_PROTOCOLS

from service.http.access import Access
from service.http.app import create_app
from service.http.concurrency import ConcurrencyLimit
from service.http.state import State
from service.models import Loader, Models
from service.settings import Settings, load_settings
from service.telemetry import configure_logs, make_folder
from tagmask.crf import Refiner
from tagmask.errors import TagmaskError
from tagmask.inbox import Inbox
from tagmask.memory import return_large_blocks

HTTP_PROTOCOLS["auto"] = "service.http.connection:Connection"  # what uvicorn takes, as BentoML does not choose one
usage_stats.do_not_track.cache_clear()  # `bentoml serve` has read, and cached, the setting before it loads this

HOST = "127.0.0.1"
"""The default address, which only this machine can reach."""

_TIMEOUT_MARGIN = 5  # seconds that BentoML's own timeout, whose response is no problem document, comes after ours
_STOP_ACCEPTING = 0.05  # seconds after a signal until all workers, which share the socket, have stopped accepting
_STOP_WORKER = 0.3  # seconds after a signal until the requests of accepted connections have begun
_ASSETS = Path(bentoml.__file__).parent / "_internal" / "server" / "static_content"


class Application:
    """ASGI middleware that handles every request itself, and passes startup and shutdown on to BentoML."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._bentoml = app
        self._settings = settings
        self._tagmask: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Start and stop with the worker, and handle requests in between."""
        if scope["type"] == "lifespan":
            async with AsyncExitStack() as running:
                self._tagmask = await running.enter_async_context(worker(self._settings))

                async def send_after_exit(message: Message) -> None:
                    if message["type"] == "lifespan.shutdown.complete":  # the server's loop ends right after it
                        await running.aclose()
                    await send(message)

                await self._bentoml(scope, receive, send_after_exit)
        elif self._tagmask is not None:
            await self._tagmask(scope, receive, send)


@asynccontextmanager
async def worker(settings: Settings) -> AsyncIterator[ASGIApp]:
    """The application with everything it needs, from start to stop."""
    configure_logs(settings.log_level)
    return_large_blocks()
    cv2.setNumThreads(1)  # photos are processed in parallel, one per thread
    refiner = Refiner(settings.max_concurrent)
    concurrency = ConcurrencyLimit(settings.max_concurrent, settings.max_queued, settings.max_bytes)
    state = State(
        settings=settings,
        access=Access(settings),
        concurrency=concurrency,
        models=await asyncio.to_thread(Models, settings, refiner),
        inbox=Inbox(settings.inbox, settings.min_free_bytes) if settings.inbox else None,
    )
    watch = asyncio.create_task(state.models.watch())
    _close_socket_first()
    try:
        yield create_app(state, _ASSETS)
    finally:
        watch.cancel()
        with suppress(asyncio.CancelledError):
            await watch
        await asyncio.to_thread(concurrency.close)
        refiner.close()


@contextmanager
def _bentoml_errors() -> Iterator[None]:
    """BentoML prints its own exceptions in one line, and all others with a traceback."""
    try:
        yield
    except TagmaskError as error:
        raise bentoml.exceptions.BentoMLException(str(error)) from None


with _bentoml_errors():
    _settings = load_settings()


@bentoml.service(
    name="tagmask",
    workers=_settings.workers,
    http={"host": HOST},
    traffic={"timeout": _settings.max_seconds + _TIMEOUT_MARGIN},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
    tracing={"excluded_urls": [".*"]},  # otherwise a span for each chunk of each body
)
class Tagmask:
    """POST photos and tags, get masks."""

    @bentoml.on_deployment  # type: ignore[untyped-decorator]
    @staticmethod
    def check() -> None:
        """Before any worker starts, refuse to, in one line, with invalid settings or nothing to serve."""
        with _bentoml_errors():
            configure_logs(_settings.log_level)
            Access(_settings).check_host(_host())
            loader = Loader(_settings)
            asyncio.run(loader.check(loader.first()))
            make_folder()


Tagmask.add_asgi_middleware(Application, settings=_settings)  # type: ignore[attr-defined]


def _close_socket_first() -> None:
    """On SIGTERM and SIGINT, close the listening socket first, then let uvicorn finish the requests in flight.

    By itself uvicorn only stops accepting, while the supervisor keeps the socket open, so that clients would wait in
    its backlog for a server that is shutting down; and it drops connections that it has accepted but not yet read.
    """
    context = click.get_current_context(silent=True)
    descriptor = context.params.get("fd") if context else None
    if descriptor is None:  # not a worker of `bentoml serve`
        return
    loop = asyncio.get_running_loop()
    listener = socket.socket(fileno=os.dup(descriptor))
    for number in (signal.SIGTERM, signal.SIGINT):
        stop_worker = signal.getsignal(number)

        def stop(number: int, frame: FrameType | None, stop_worker: Any = stop_worker) -> None:
            loop.call_soon_threadsafe(loop.remove_reader, descriptor)
            loop.call_soon_threadsafe(loop.call_later, _STOP_ACCEPTING, _shut_down, listener)
            loop.call_soon_threadsafe(loop.call_later, _STOP_WORKER, stop_worker, number, frame)

        signal.signal(number, stop)


def _shut_down(listener: socket.socket) -> None:
    """Refuse new connections; where the system cannot do this (macOS), they wait until the supervisor exits."""
    with suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)


def _host() -> str:
    """The address on which `bentoml serve` listens."""
    context = click.get_current_context(silent=True)
    return (context and context.params.get("host")) or HOST
