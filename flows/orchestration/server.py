"""The Prefect server that the flows report to: an existing one, or one that lives as long as it is used.

Without a server, Prefect starts a temporary one per process, which has no UI and costs seconds each. So a command
opens `prefect_server`, and all its child processes use the same one.

A server that Tagmask starts lives exactly as long as it has users: each holds a shared lock on a file in Prefect's home
folder, which the system releases when the process ends, however it ends. The server waits for the exclusive lock, and
ends when it gets it. This lock is flock's own, as filelock has no shared locks that the system releases.
"""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import httpx
import prefect
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.context import refresh_global_settings_context
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogHandler
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings

from tagmask import launch
from tagmask.errors import RunError
from tagmask.files import locked

HOST = "127.0.0.1"

START_S, ANSWER_S, STOP_S = 180.0, 5.0, 10.0
"""Time limits in seconds for a server to start (with all migrations of a new database), to answer, and to stop."""

QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_SERVER_UI_V2_ENABLED": "false",  # it fetches settings from a third-party server
}
"""Defaults of the environment: nothing is reported to third parties."""

SERVER_DEFAULTS = {
    # In memory, Prefect's default, slots of concurrency limits would be lost when the server stops.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
}
"""Defaults of the environment of a server that Tagmask starts."""


@contextmanager
def prefect_server() -> Iterator[str]:
    """The API's address, set for this process and its children in the context.

    The server is the one named by PREFECT_API_URL or Prefect's profile; else one with the same home folder that answers
    at 127.0.0.1 on Prefect's port (4200); else a new one on that port or, if it is in use, on a free one. A new server
    has the Prefect UI, and the database named by PREFECT_API_DATABASE_CONNECTION_URL, by default SQLite in Prefect's
    home folder. Contexts may be nested. Raises RunError when the named server does not answer, or a new one does not
    start.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if named := get_current_settings().api.url:
        _check(named)
        with _address(named):
            yield named
        return
    with _shared() as url, _address(url):
        print(f"Prefect UI: {url.removesuffix('/api')}", file=sys.stderr)
        try:
            yield url
        finally:  # Prefect does it when the process ends, which is after the server has ended
            APILogHandler().flush()
            EventsWorker.drain_all(timeout=STOP_S)


@contextmanager
def _shared() -> Iterator[str]:
    """A server on this machine that lives as long as it has users; the address of its API."""
    home = get_current_settings().home
    with _users_lock(fcntl.LOCK_SH) as users:
        child = None
        with locked(home / "tagmask-server.starting"):
            port = get_current_settings().server.api.port
            address = home / "tagmask-server.url"
            last = address.read_text() if address.is_file() else ""
            url = next(filter(_usable, filter(None, (last, _url(port)))), "")
            if not url:
                url = _url(port := _free_port(port))
                child = _start(port, url)
                address.write_text(url)
        try:
            yield url
        finally:
            if child is not None and _is_last(users):
                _stop(child)


def _url(port: int) -> str:
    return f"http://{HOST}:{port}/api"


@contextmanager
def _users_lock(operation: int) -> Iterator[IO[str]]:
    """Hold the lock of the server's users in the context, shared or exclusively; yields its file."""
    path = get_current_settings().home / "tagmask-server.users"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    except OSError as error:
        raise RunError(
            f"{path}: cannot be written ({error.strerror}); grant access to it, or set PREFECT_HOME to another folder"
        ) from error
    with file:
        fcntl.flock(file, operation)
        yield file


def _is_last(users: IO[str]) -> bool:
    """Whether the server has no other users; until `users` is closed, no one else can become one."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _address(url: str) -> Iterator[None]:
    previous = os.environ.get("PREFECT_API_URL")
    os.environ["PREFECT_API_URL"] = url
    refresh_global_settings_context()  # for threads, which do not see temporary settings and would start a server
    try:
        with temporary_settings({PREFECT_API_URL: url}):
            yield
    finally:
        if previous is None:
            del os.environ["PREFECT_API_URL"]
        else:
            os.environ["PREFECT_API_URL"] = previous
        refresh_global_settings_context()


@contextmanager
def _client(url: str) -> Iterator[SyncPrefectClient]:
    with temporary_settings({PREFECT_API_URL: url}), get_client(sync_client=True) as client:
        yield client


def _check(url: str) -> None:
    with _client(url) as client:
        error = client.api_healthcheck()
    if error is not None:
        raise RunError(
            f"PREFECT_API_URL {url}: no Prefect server answers ({error}); start it with `prefect server start`, or "
            "unset PREFECT_API_URL in the environment and in Prefect's profile to have one started automatically"
        )


def _version(url: str) -> str:
    """Version of the Prefect server at `url`, empty if none answers."""
    with _client(url) as client:
        try:
            return str(client.api_version())
        except (httpx.HTTPError, ValueError):
            return ""


def _usable(url: str) -> bool:
    """Whether a server of this version and home folder answers, so not another user's."""
    if _version(url).split(".")[:2] != prefect.__version__.split(".")[:2]:
        return False
    try:
        home = httpx.get(f"{url}/admin/settings", timeout=ANSWER_S).raise_for_status().json()["home"]
    except (httpx.HTTPError, ValueError, KeyError):
        return False
    return bool(Path(home) == get_current_settings().home)


def _free_port(preferred: int) -> int:
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise RunError(f"no port of {HOST} is free for Prefect's server; stop other programs, or set PREFECT_API_URL")


def _start(port: int, url: str) -> subprocess.Popen[bytes]:
    """Start a server that answers at `url`. Raises RunError with the end of its output."""
    home = get_current_settings().home
    own_origins = f"http://{HOST}:{port},http://localhost:{port}"
    defaults = {
        **SERVER_DEFAULTS,
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(home / "ui"),  # by default in site-packages, often read-only
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": own_origins,  # by default any web page may start runs
    }
    environment = {**defaults, **os.environ, "PREFECT_SERVER_API_PORT": str(port)}
    environment.pop("PREFECT_API_URL", None)
    output = home / "tagmask-server.log"
    with output.open("wb") as file:
        child = subprocess.Popen(
            launch.command("flows.orchestration.server"),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C stops the flow, which still reports its final state
        )
    try:
        _wait(child, url, output)
    except BaseException:
        _stop(child)
        raise
    return child


def _wait(child: subprocess.Popen[bytes], url: str, output: Path) -> None:
    limit = time.monotonic() + START_S
    while not _version(url):
        problem = f"ended with status {child.returncode}" if child.poll() is not None else ""
        if time.monotonic() > limit:
            problem = f"did not answer within {START_S:.0f} s"
        if problem:
            end = "\n".join(output.read_text(errors="replace").splitlines()[-15:])
            raise RunError(f"Prefect's server at {url} {problem}; {output} ends with:\n{end}")
        time.sleep(0.2)


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(STOP_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _serve() -> None:
    """Run the server until it has no users."""
    import uvicorn
    from prefect.server.api.server import create_app

    threading.Thread(target=_stop_when_unused, daemon=True).start()
    uvicorn.run(
        create_app(final=True),
        host=HOST,
        port=get_current_settings().server.api.port,
        log_level="warning",
        timeout_graceful_shutdown=2,
    )


def _stop_when_unused() -> None:
    with _users_lock(fcntl.LOCK_EX):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(STOP_S)
        os._exit(1)


if __name__ == "__main__":
    _serve()
