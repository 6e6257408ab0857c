"""The BentoML service, which `bentoml serve` runs.

BentoML supervises the workers, their socket and their signals. Our own ASGI application, in front of BentoML's routes,
handles every request, as BentoML's image inputs neither limit nor validate what clients send.

The supervisor imports this module as well, and keeps what it imports: what a network needs is imported by the workers
alone, and by the process that checks whether they can start.
"""

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")

import bentoml
import bentoml.exceptions
import click
from bentoml._internal.utils.analytics import usage_stats
from circus.exc import ConflictError
from circus.sighandler import SysHandler
from circus.sockets import CircusSocket
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.config import HTTP_PROTOCOLS

from service.activity import recorded_activity
from service.settings import Settings, load_settings
from service.telemetry import configure_logs, make_folder
from tagmask import launch
from tagmask.errors import StartError, TagmaskError

log = logging.getLogger("tagmask.worker")

HTTP_PROTOCOLS["auto"] = "service.http.connection:Connection"  # what uvicorn takes, as BentoML does not choose one
usage_stats.do_not_track.cache_clear()  # `bentoml serve` has read, and cached, the setting before it loads this

HOST = "127.0.0.1"
"""The default address, which only this machine can reach."""

_TIMEOUT_MARGIN = 5  # seconds that BentoML's own timeout, whose response is no problem document, comes after ours
_STOP_ACCEPTING = 0.05  # seconds after a signal until all workers, which share the socket, have stopped accepting
_STOP_WORKER = 0.3  # seconds after a signal until the requests of accepted connections have begun
_RETRY_STOP = 0.1  # seconds until the supervisor, which was starting a worker, tries to stop again
_WATCH_SUPERVISOR = 1.0  # seconds between a worker's checks that its supervisor is alive
_SUPERVISOR = "_TAGMASK_SUPERVISOR"  # variable in which workers find the process id of their supervisor
_WORKER_FAILED = signal.SIGUSR1  # what a worker that cannot start sends to its supervisor
_FAILED = 3  # exit status, also uvicorn's
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
                configure_logs(self._settings.log_level)
                _end_with_supervisor()
                try:
                    from service.http.worker import worker

                    running.enter_context(recorded_activity())
                    self._tagmask = await running.enter_async_context(worker(self._settings, _ASSETS))
                    _listen()
                    _close_socket_first()
                except Exception as error:
                    _fail(error)
                    await send({"type": "lifespan.startup.failed"})
                    return

                async def send_after_exit(message: Message) -> None:
                    if message["type"] == "lifespan.shutdown.complete":  # the server's loop ends right after it
                        await running.aclose()
                    await send(message)

                await self._bentoml(scope, receive, send_after_exit)
        elif self._tagmask is not None:
            await self._tagmask(scope, receive, send)


def _fail(error: Exception) -> None:
    """Log why this worker cannot start, and end its supervisor, which would start it again and again."""
    expected = isinstance(error, TagmaskError)
    log.error("worker cannot start", extra={"reason": str(error)}, exc_info=None if expected else error)
    if _parameter("fd") is not None:
        os.kill(os.getppid(), _WORKER_FAILED)


def _end_with_workers() -> None:
    """In the supervisor: stop, with a status that is not 0, when a worker cannot start."""
    context = click.get_current_context(silent=True)

    def stop(*_: object) -> None:
        if context:
            context.call_on_close(lambda: sys.exit(_FAILED))
        os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(_WORKER_FAILED, stop)


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
    tracing={"excluded_urls": [".*"]},  # ours are in service/http/tracing.py
)
class Tagmask:
    """POST photos and tags, get masks."""

    @bentoml.on_deployment  # type: ignore[untyped-decorator]
    @staticmethod
    def check() -> None:
        """Before any worker starts, refuse, in one line, invalid settings and a bundle that cannot be served."""
        configure_logs(_settings.log_level)
        checked = subprocess.run(launch.command("service.check", _host()), stdout=subprocess.PIPE, text=True)
        if checked.returncode:
            reason = checked.stdout or f"the check before the start ended with status {checked.returncode}"
            raise bentoml.exceptions.BentoMLException(reason)
        make_folder()
        os.environ[_SUPERVISOR] = str(os.getpid())
        _leave_listening_to_workers()
        _stop_when_started()
        _end_with_workers()


Tagmask.add_asgi_middleware(Application, settings=_settings)  # type: ignore[attr-defined]


def _leave_listening_to_workers() -> None:
    """In the supervisor: only bind the socket, so that connections are refused until a worker is ready.

    Otherwise clients would wait in its backlog, while a load balancer could try another instance.
    """
    CircusSocket.listen = lambda *_: None


def _stop_when_started() -> None:
    """In the supervisor: stop on a signal once its task in progress, such as starting a worker, is done.

    Unpatched, it drops a signal that arrives during a task.
    """

    def quit(handler: SysHandler) -> None:
        loop, arbiter = handler.controller.loop, handler.controller.arbiter

        def stop() -> None:
            try:
                arbiter.stop()
            except ConflictError:
                loop.call_later(_RETRY_STOP, stop)

        loop.add_callback_from_signal(stop)

    SysHandler.quit = quit


def _end_with_supervisor() -> None:
    """In a worker: stop as on SIGTERM when the supervisor has ended without stopping it, as it does on SIGKILL."""
    if (supervisor := os.environ.get(_SUPERVISOR)) is None:
        return

    def watch() -> None:
        while str(os.getppid()) == supervisor:
            time.sleep(_WATCH_SUPERVISOR)
        log.error("worker stops, as its supervisor has ended")
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _listen() -> None:
    """Accept connections on the supervisor's socket. Raises StartError if another program listens there by now."""
    descriptor = _parameter("fd")
    if descriptor is None:  # not a worker of `bentoml serve`
        return
    with socket.socket(fileno=os.dup(descriptor)) as listener:
        try:
            listener.listen()
        except OSError as fault:
            raise StartError(f"port {listener.getsockname()[1]}: {fault.strerror}; choose another one") from fault


def _close_socket_first() -> None:
    """On SIGTERM and SIGINT, close the listening socket first, then let uvicorn finish the requests in flight.

    By itself uvicorn only stops accepting, while the supervisor keeps the socket open, so that clients would wait in
    its backlog for a server that is shutting down; and it drops connections that it has accepted but not yet read.
    """
    descriptor = _parameter("fd")
    if descriptor is None:
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
    return _parameter("host") or HOST


def _parameter(name: str) -> Any:
    """A parameter of the command that runs this process: BentoML's supervisor or worker; None if there is none."""
    context = click.get_current_context(silent=True)
    return context.params.get(name) if context else None
