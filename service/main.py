"""The BentoML service: `bentoml serve` runs it.

BentoML supervises the workers, their socket and their signals. Every request is answered by our own ASGI application,
which sits in front of BentoML's routes, as its own image inputs neither limit nor judge what they are sent.
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
from bentoml._internal.utils.analytics import usage_stats
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.access import Access
from service.http.app import create_app
from service.http.concurrency import ConcurrencyLimit
from service.http.state import State
from service.models import Models, first_model
from service.settings import Settings, load_settings
from service.telemetry import configure_logs, observe_stage
from tagmask.crf import Refiner
from tagmask.errors import TagmaskError
from tagmask.inbox import Inbox
from tagmask.segmenter import Engine

usage_stats.do_not_track.cache_clear()  # `bentoml serve` has asked, and remembers, before it loads this

HOST = "127.0.0.1"
"""Where the service listens unless told otherwise: nobody else can reach it there."""

_GRACE = 5
"""Seconds by which BentoML's own time limit, which knows no typed errors, comes after ours."""

_OTHERS = 0.05
"""Seconds after a signal by which the other workers, which share the socket, no longer accept either."""

_ACCEPTED = 0.3
"""Seconds after a signal by which the requests of accepted connections have begun."""

_ASSETS = Path(bentoml.__file__).parent / "_internal" / "server" / "static_content"


class Application:
    """ASGI middleware that answers every request itself; what starts and stops a worker is passed on to BentoML."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._bentoml = app
        self._settings = settings
        self._tagmask: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Start and stop with the worker, and answer in between."""
        if scope["type"] == "lifespan":
            async with AsyncExitStack() as running:
                self._tagmask = await running.enter_async_context(worker(self._settings))

                async def send_when_over(message: Message) -> None:
                    if message["type"] == "lifespan.shutdown.complete":  # the server's loop ends right after it
                        await running.aclose()
                    await send(message)

                await self._bentoml(scope, receive, send_when_over)
        elif self._tagmask is not None:
            await self._tagmask(scope, receive, send)


@asynccontextmanager
async def worker(settings: Settings) -> AsyncIterator[ASGIApp]:
    """The application with all that it needs, from start to stop."""
    configure_logs(settings.log_level)
    refiner = Refiner(settings.max_concurrent)
    gate = ConcurrencyLimit(settings.max_concurrent, settings.max_queued)
    state = State(
        settings=settings,
        access=Access(settings),
        gate=gate,
        engine=Engine(
            max_pixels=settings.max_pixels,
            refiner=refiner,
            refine_seconds=settings.max_seconds,
            observe=observe_stage,
        ),
        models=await asyncio.to_thread(Models, settings),
        inbox=Inbox(settings.inbox, settings.min_free_bytes) if settings.inbox else None,
    )
    watch = asyncio.create_task(state.models.watch())
    _refuse_when_stopping()
    try:
        yield create_app(state, _ASSETS)
    finally:
        watch.cancel()
        with suppress(asyncio.CancelledError):
            await watch
        await asyncio.to_thread(gate.close)
        refiner.close()


@contextmanager
def _in_one_line() -> Iterator[None]:
    """BentoML tells its own exceptions in one line, and all others by a traceback."""
    try:
        yield
    except TagmaskError as fault:
        raise bentoml.exceptions.BentoMLException(str(fault)) from None


with _in_one_line():
    _settings = load_settings()


@bentoml.service(
    name="tagmask",
    workers=_settings.workers,
    http={"host": HOST},
    traffic={"timeout": _settings.max_seconds + _GRACE},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
    tracing={"excluded_urls": [".*"]},  # a span for each piece of each body, which nobody asked for
)
class Tagmask:
    """POST photos with tags, get masks."""

    @bentoml.on_deployment  # type: ignore[untyped-decorator]
    @staticmethod
    def check() -> None:
        """Refuse to start, in one line and before any worker does, with bad settings or nothing to serve."""
        with _in_one_line():
            configure_logs(_settings.log_level)
            Access(_settings).check_host(_host())
            first_model(_settings, device="cpu")


Tagmask.add_asgi_middleware(Application, settings=_settings)  # type: ignore[attr-defined]


def _refuse_when_stopping() -> None:
    """When a stop is asked for, close the listening socket first, then let uvicorn finish what is in flight.

    By itself uvicorn only stops accepting, while the supervisor keeps the socket open: clients would wait in its
    backlog for a server that is going away. And it hangs up on connections that it has accepted but not yet read.
    """
    context = click.get_current_context(silent=True)
    descriptor = context.params.get("fd") if context else None
    if descriptor is None:  # not a worker of `bentoml serve`
        return
    loop = asyncio.get_running_loop()
    listener = socket.socket(fileno=os.dup(descriptor))
    for number in (signal.SIGTERM, signal.SIGINT):
        finish = signal.getsignal(number)

        def stop(number: int, frame: FrameType | None, finish: Any = finish) -> None:
            loop.call_soon_threadsafe(loop.remove_reader, descriptor)
            loop.call_soon_threadsafe(loop.call_later, _OTHERS, listener.shutdown, socket.SHUT_RDWR)
            loop.call_soon_threadsafe(loop.call_later, _ACCEPTED, finish, number, frame)

        signal.signal(number, stop)


def _host() -> str:
    """The address that `bentoml serve` was told to listen on."""
    context = click.get_current_context(silent=True)
    return (context and context.params.get("host")) or HOST
