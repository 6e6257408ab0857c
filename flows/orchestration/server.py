"""The Prefect server that the flows report to: one that is there already, or one that lives as long as it is needed.

Without a server, Prefect starts a temporary one for each process: no pages to look at, and seconds lost in each. So a
command opens `prefect_server`, and all that it starts, processes of a pool and subprocesses too, use the same one.

A server of ours outlives the command that started it while others use it, and never longer: each user holds a shared
lock on a file in Prefect's home folder, which the system takes back when the user ends, however it ends. The server
waits for that lock alone, and ends when it gets it.
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

import httpx
import prefect
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.context import refresh_global_settings_context
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogHandler
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings

from tagmask.errors import RunError

HOST = "127.0.0.1"

START_S, ANSWER_S, STOP_S = 180.0, 5.0, 10.0
"""Seconds that a server may take to start, with all migrations of a new database, to answer, and to stop."""

QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_SERVER_UI_V2_ENABLED": "false",  # these pages ask a company's server for settings, whatever is set here
}
"""Nothing is reported to anybody, unless the environment says so."""

KEPT = {
    # In memory, as is the default, a slot of a concurrency limit would be lost for ever with a server that is stopped.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
}
"""What a server of ours does otherwise than by default; the environment still has the last word."""


@contextmanager
def prefect_server() -> Iterator[str]:
    """The API's address, set for this process and those that it starts while the context is open.

    Used is what PREFECT_API_URL or Prefect's profile names; else a server of the same home folder that answers at
    127.0.0.1 on Prefect's port (4200); else one is started there, or on a free port when something else has that one.
    It has Prefect's own pages, and its database is what PREFECT_API_DATABASE_CONNECTION_URL names, SQLite in Prefect's
    home folder by default.
    Contexts may be nested. Raises RunError when the named server does not answer, or ours does not start.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if named := get_current_settings().api.url:
        _check(named)
        with _address(named):
            yield named
        return
    with _shared() as url, _address(url):
        print(f"Prefect's pages: {url.removesuffix('/api')}", file=sys.stderr)
        try:
            yield url
        finally:  # Prefect itself would do it when the process ends, and the server before it
            APILogHandler().flush()
            EventsWorker.drain_all(timeout=STOP_S)


@contextmanager
def _shared() -> Iterator[str]:
    """A server on this machine that lives while somebody needs it; its API's address."""
    with _lock("tagmask-server.users", fcntl.LOCK_SH) as users:
        child = None
        with _lock("tagmask-server.starting", fcntl.LOCK_EX) as starting:
            port = get_current_settings().server.api.port
            last = os.pread(starting, 100, 0).decode()
            url = next(filter(_usable, filter(None, (last, _url(port)))), "")
            if not url:
                url = _url(port := _free_port(port))
                child = _start(port, url)
                os.ftruncate(starting, 0)
                os.pwrite(starting, url.encode(), 0)
        try:
            yield url
        finally:
            if child is not None and _alone(users):
                _stop(child)


def _url(port: int) -> str:
    return f"http://{HOST}:{port}/api"


@contextmanager
def _lock(name: str, kind: int) -> Iterator[int]:
    """Hold a lock of Prefect's home folder; gives its file descriptor."""
    path = get_current_settings().home / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as fault:
        raise RunError(
            f"{path}: cannot be written ({fault.strerror}); grant access to it, or set PREFECT_HOME to another folder"
        ) from fault
    try:
        fcntl.flock(handle, kind)
        yield handle
    finally:
        os.close(handle)


def _alone(users: int) -> bool:
    """Whether nobody else uses the server; nobody can begin to until `users` is closed."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _address(url: str) -> Iterator[None]:
    before = os.environ.get("PREFECT_API_URL")
    os.environ["PREFECT_API_URL"] = url
    refresh_global_settings_context()  # for threads: they know nothing of temporary settings, and start a server
    try:
        with temporary_settings({PREFECT_API_URL: url}):
            yield
    finally:
        if before is None:
            del os.environ["PREFECT_API_URL"]
        else:
            os.environ["PREFECT_API_URL"] = before
        refresh_global_settings_context()


@contextmanager
def _client(url: str) -> Iterator[SyncPrefectClient]:
    with temporary_settings({PREFECT_API_URL: url}), get_client(sync_client=True) as client:
        yield client


def _check(url: str) -> None:
    with _client(url) as client:
        fault = client.api_healthcheck()
    if fault is not None:
        raise RunError(
            f"PREFECT_API_URL {url}: no Prefect server answers ({fault}); start it with `prefect server start`, or "
            "unset PREFECT_API_URL in the environment and in Prefect's profile to have one started"
        )


def _version(url: str) -> str:
    """Version of the Prefect server at `url`, empty without one."""
    with _client(url) as client:
        try:
            return str(client.api_version())
        except (httpx.HTTPError, ValueError):
            return ""


def _usable(url: str) -> bool:
    """Whether a server of this version answers that keeps its things where we do, so not somebody else's."""
    if _version(url).split(".")[:2] != prefect.__version__.split(".")[:2]:
        return False
    try:
        home = httpx.get(f"{url}/admin/settings", timeout=ANSWER_S).raise_for_status().json()["home"]
    except (httpx.HTTPError, ValueError, KeyError):
        return False
    return bool(Path(home) == get_current_settings().home)


def _free_port(wanted: int) -> int:
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise RunError(f"no port of {HOST} is free for Prefect's server; close some programs, or set PREFECT_API_URL")


def _start(port: int, url: str) -> subprocess.Popen[bytes]:
    """A server of ours that answers at `url`. Raises RunError with the end of its output."""
    home = get_current_settings().home
    packages = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
    own = f"http://{HOST}:{port},http://localhost:{port}"
    defaults = {
        **KEPT,
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(home / "ui"),  # its own lies among the packages
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": own,  # by default any page in a browser may start runs
    }
    environment = {**defaults, **os.environ, "PYTHONPATH": packages, "PREFECT_SERVER_API_PORT": str(port)}
    environment.pop("PREFECT_API_URL", None)
    output = home / "tagmask-server.log"
    with output.open("wb") as file:
        child = subprocess.Popen(
            [sys.executable, "-m", "flows.orchestration.server"],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the flow, which still reports how it ended
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
        why = f"ended with status {child.returncode}" if child.poll() is not None else ""
        if time.monotonic() > limit:
            why = f"did not answer within {START_S:.0f} s"
        if why:
            end = "\n".join(output.read_text(errors="replace").splitlines()[-15:])
            raise RunError(f"Prefect's server at {url} {why}; {output} ends with:\n{end}")
        time.sleep(0.2)


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(STOP_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _serve() -> None:
    """Be the server until nobody uses it."""
    import uvicorn
    from prefect.server.api.server import create_app

    threading.Thread(target=_end_when_unused, daemon=True).start()
    uvicorn.run(
        create_app(final=True),
        host=HOST,
        port=get_current_settings().server.api.port,
        log_level="warning",
        timeout_graceful_shutdown=2,
    )


def _end_when_unused() -> None:
    with _lock("tagmask-server.users", fcntl.LOCK_EX):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(STOP_S)
        os._exit(1)


if __name__ == "__main__":
    _serve()
