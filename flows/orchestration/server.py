"""The Prefect server that the flows report to: an existing one, or one that lives as long as it is used.

Without a server, Prefect starts a temporary one per process, which has no UI and costs seconds each. So a command
opens `prefect_server`, and all its child processes use the same one.
"""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event, Thread

import httpx
import prefect
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.context import refresh_global_settings_context
from prefect.events.worker import EventsWorker
from prefect.logging import get_logger
from prefect.logging.handlers import APILogHandler
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, get_current_settings, temporary_settings
from prefect.settings.legacy import Setting

from flows.orchestration.server_process import HOST, START_S, STOP_S, ServerFiles, is_last, start, stop
from tagmask import launch
from tagmask.disk import writable
from tagmask.errors import RunError
from tagmask.files import locked

ANSWER_S = 5.0
"""Time limit in seconds for a server to answer."""

WATCH_S = 1.0
"""Seconds between two checks that a server lives."""

QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_SERVER_UI_V2_ENABLED": "false",  # it fetches settings from a third-party server
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""Defaults of the environment: nothing is reported to third parties."""

log = get_logger("tagmask.server")


@contextmanager
def prefect_server() -> Iterator[str]:
    """The API's address, set for this process and its children in the context, with what the server asks of clients.

    The server is the one named by PREFECT_API_URL or Prefect's profile; else one with the same home folder that the
    user started at 127.0.0.1 on Prefect's port (4200); else one that Tagmask started or starts now, on that port or,
    if it is in use, on a free one. Such a server has the Prefect UI, answers only those who present the secret of its
    home folder, and is started again if it dies. Its database is the one named by
    PREFECT_API_DATABASE_CONNECTION_URL, by default SQLite in Prefect's home folder. Contexts may be nested. Raises
    RunError when the named server does not answer, or a new one does not start, or does not start again, or Prefect's
    home folder cannot be written.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if named := get_current_settings().api.url:
        _check(named)
        with _environment({PREFECT_API_URL: named}):
            yield named
    elif found := _found():
        with _environment({PREFECT_API_URL: found}):
            print(f"Prefect UI: {found.removesuffix('/api')}", file=sys.stderr)
            yield found
    else:
        with _OwnServer().use() as url:
            yield url


def client_variables(url: str) -> str:
    """What stands before a command in a shell that is to reach the server of `prefect_server` at `url`."""
    variables = f"PREFECT_API_URL={url} "
    if get_current_settings().api.auth_string:
        variables += f'PREFECT_API_AUTH_STRING="{ServerFiles().auth_expression()}" '
    return variables


class _OwnServer:
    """A server that Tagmask starts, which lives as long as it has users."""

    def __init__(self) -> None:
        self._files = ServerFiles()
        self._child: subprocess.Popen[bytes] | None = None
        self._failure: RunError | None = None

    @contextmanager
    def use(self) -> Iterator[str]:
        """Be a user of the server in the context; the address of its API, which is set with its secret."""
        with ExitStack() as stack:
            with writable(f"PREFECT_HOME {self._files.home}"):
                users = stack.enter_context(self._files.lock_users(fcntl.LOCK_SH))
                with locked(self._files.starting):
                    auth = self._files.auth_string()
                    url = self._running(auth) or self._start(_free_port(get_current_settings().server.api.port), auth)
            variables = {PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: auth}
            try:
                with _environment(variables), self._watched(url, auth):
                    password = f"password in {self._files.auth_source()}"
                    print(f"Prefect UI: {url.removesuffix('/api')}, {password}", file=sys.stderr)
                    try:
                        yield url
                    finally:  # Prefect does it when the process ends, which is after the server has ended
                        APILogHandler().flush()
                        EventsWorker.drain_all(timeout=STOP_S)
            finally:
                if self._child is not None and is_last(users):
                    stop(self._child)

    def _running(self, auth: str) -> str | None:
        """The server of another process, once it answers."""
        limit = time.monotonic() + START_S
        while url := self._files.running():
            if version := _version(url, auth):
                if not _is_own(version):
                    raise RunError(
                        f"Prefect's server at {url} is version {version}, this is {prefect.__version__}; stop what "
                        "uses it, or set PREFECT_HOME to another folder"
                    )
                return url
            if time.monotonic() > limit:
                raise RunError(f"Prefect's server at {url} does not answer; see {self._files.log}, and end its process")
            time.sleep(0.2)
        return None

    def _start(self, port: int, auth: str) -> str:
        url = _url(port)
        self._child = start(self._files, port, lambda: bool(_version(url, auth)))
        return url

    @contextmanager
    def _watched(self, url: str, auth: str) -> Iterator[None]:
        """Start the server again whenever it dies in the context; if that fails, end the context by SIGTERM."""
        ended = Event()
        watcher = Thread(target=self._watch, args=(url, auth, ended), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()
            if self._failure is not None:
                raise self._failure

    def _watch(self, url: str, auth: str, ended: Event) -> None:
        while not ended.wait(WATCH_S):
            if self._files.running():
                continue
            try:
                with locked(self._files.starting):
                    if not self._files.running():
                        log.warning("Prefect's server at %s has died; starting it again", url)
                        self._start(httpx.URL(url).port or 0, auth)
            except (RunError, OSError) as error:
                self._failure = RunError(f"Prefect's server at {url} has died and does not start again: {error}")
                os.kill(os.getpid(), signal.SIGTERM)
                return


def _url(port: int) -> str:
    return f"http://{HOST}:{port}/api"


@contextmanager
def _environment(variables: Mapping[Setting, str]) -> Iterator[None]:
    """Set variables of Prefect for this process, all its threads and its children in the context."""
    try:
        with launch.environment({setting.name: value for setting, value in variables.items()}):
            # For threads, which do not see temporary settings and would start a server.
            refresh_global_settings_context()
            with temporary_settings(variables):
                yield
    finally:
        refresh_global_settings_context()


@contextmanager
def _client(url: str, auth: str | None = None) -> Iterator[SyncPrefectClient]:
    settings = {PREFECT_API_URL: url} | ({PREFECT_API_AUTH_STRING: auth} if auth else {})
    with temporary_settings(settings), get_client(sync_client=True) as client:
        yield client


def _check(url: str) -> None:
    with _client(url) as client:
        error = client.api_healthcheck()
    if error is not None:
        raise RunError(
            f"PREFECT_API_URL {url}: no Prefect server answers ({error}); start it with `prefect server start`, or "
            "unset PREFECT_API_URL in the environment and in Prefect's profile to have one started automatically"
        )


def _version(url: str, auth: str | None = None) -> str:
    """Version of the Prefect server at `url`, empty if none answers."""
    with _client(url, auth) as client:
        try:
            return str(client.api_version())
        except (httpx.HTTPError, ValueError):
            return ""


def _found() -> str | None:
    """A server of this version and home folder that the user started on Prefect's port, and that asks for no secret."""
    url = _url(get_current_settings().server.api.port)
    try:
        version, settings = (
            httpx.get(f"{url}/admin/{name}", timeout=ANSWER_S).raise_for_status().json()
            for name in ("version", "settings")
        )
        same = _is_own(str(version)) and Path(settings["home"]) == get_current_settings().home
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return None
    return url if same else None


def _is_own(version: str) -> bool:
    """Whether `version` is that of this process, but for the patch level."""
    return version.split(".")[:2] == prefect.__version__.split(".")[:2]


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
