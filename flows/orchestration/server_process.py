"""The process of a Prefect server that Tagmask starts: who may use it, and how long it lives.

Files in Prefect's home folder:
  tagmask-server.auth   what a client has to present; only this user can read it
  tagmask-server.users  a shared lock of each user, which the system releases when the user's process ends, however it
                        ends; the server waits for the exclusive lock, and ends when it gets it
  tagmask-server.url    address of the API, locked by the server as long as it lives
  tagmask-server.log    output of the server

These locks are flock's own, as filelock has no shared locks that the system releases.
"""

import fcntl
import os
import secrets
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from prefect.settings import get_current_settings

from tagmask import launch
from tagmask.errors import RunError
from tagmask.files import atomic_write

HOST = "127.0.0.1"

START_S, STOP_S = 180.0, 10.0
"""Time limits in seconds for a server to start (with all migrations of a new database), and to stop."""

SERVER_DEFAULTS = {
    # In memory, Prefect's default, slots of concurrency limits would be lost when the server stops.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
}
"""Defaults of the environment of the server."""


class ServerFiles:
    """The files of the server in Prefect's home folder."""

    def __init__(self) -> None:
        home = get_current_settings().home
        self.home = home
        self.auth = home / "tagmask-server.auth"
        self.users = home / "tagmask-server.users"
        self.starting = home / "tagmask-server.starting"
        self.url = home / "tagmask-server.url"
        self.log = home / "tagmask-server.log"

    @contextmanager
    def lock_users(self, operation: int) -> Iterator[IO[str]]:
        """Hold the lock of the server's users in the context, shared or exclusively; yields its file."""
        self.home.mkdir(parents=True, exist_ok=True)
        with self.users.open("a") as file:
            fcntl.flock(file, operation)
            yield file

    def running(self) -> str | None:
        """Address of the API of the server that lives, or is starting; None without one."""
        try:
            with self.url.open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return None
        except BlockingIOError:
            return self.url.read_text() or None
        return None

    def auth_source(self) -> str:
        """Where a person finds what `auth_string` returns: a variable or a file."""
        return "PREFECT_SERVER_API_AUTH_STRING" if get_current_settings().server.api.auth_string else str(self.auth)

    def auth_expression(self) -> str:
        """What stands for `auth_string` between double quotes in a shell."""
        source = self.auth_source()
        return f"$(cat {shlex.quote(source)})" if source == str(self.auth) else f"${source}"

    def auth_string(self) -> str:
        """PREFECT_SERVER_API_AUTH_STRING, by default a secret of this home folder, which is made at the first call."""
        if configured := get_current_settings().server.api.auth_string:
            return configured.get_secret_value()
        if secret := self.auth.read_text().strip() if self.auth.is_file() else "":
            return secret
        secret = f"tagmask:{secrets.token_urlsafe(24)}"
        with atomic_write(self.auth, mode=0o600) as file:
            file.write(f"{secret}\n".encode())
        return secret


def is_last(users: IO[str]) -> bool:
    """Whether the server has no other users; until `users` is closed, no one else can become one."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def start(files: ServerFiles, port: int, answers: Callable[[], bool]) -> subprocess.Popen[bytes]:
    """Start a server on `port`, and wait until it `answers`. Raises RunError with the end of its output."""
    own_origins = f"http://{HOST}:{port},http://localhost:{port}"
    defaults = {
        **SERVER_DEFAULTS,
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(files.home / "ui"),  # by default in site-packages, often read-only
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": own_origins,  # by default pages of any origin may read answers
    }
    own = {"PREFECT_SERVER_API_PORT": str(port), "PREFECT_SERVER_API_AUTH_STRING": files.auth_string()}
    environment = {**defaults, **os.environ, **own}
    environment.pop("PREFECT_API_URL", None)
    with files.log.open("wb") as file:
        child = subprocess.Popen(
            launch.command("flows.orchestration.server_process"),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C stops the flow, which still reports its final state
        )
    try:
        _wait(child, port, files.log, answers)
    except BaseException:
        stop(child)
        raise
    return child


def stop(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(STOP_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _wait(child: subprocess.Popen[bytes], port: int, output: Path, answers: Callable[[], bool]) -> None:
    limit = time.monotonic() + START_S
    while not answers():
        problem = f"ended with status {child.returncode}" if child.poll() is not None else ""
        if time.monotonic() > limit:
            problem = f"did not answer within {START_S:.0f} s"
        if problem:
            end = "\n".join(output.read_text(errors="replace").splitlines()[-15:])
            said = f"{output} ends with:\n{end}" if end else "try again when this machine has less to do"
            raise RunError(f"Prefect's server at http://{HOST}:{port}/api {problem}; {said}")
        time.sleep(0.2)


def _serve() -> None:
    """Run the server until it has no users."""
    import uvicorn
    from prefect.server.api.server import create_app
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    files, port = ServerFiles(), get_current_settings().server.api.port
    with files.url.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"{files.url}: another server is using {files.home}")
        file.truncate(0)
        file.write(f"http://{HOST}:{port}/api")
        file.flush()
        threading.Thread(target=_stop_when_unused, args=(files,), daemon=True).start()
        uvicorn.run(
            # A page whose name resolves to this machine (DNS rebinding) sends its own name as the host.
            TrustedHostMiddleware(create_app(final=True), allowed_hosts=[HOST, "localhost"]),
            host=HOST,
            port=port,
            log_level="warning",
            timeout_graceful_shutdown=2,
        )


def _stop_when_unused(files: ServerFiles) -> None:
    with files.lock_users(fcntl.LOCK_EX):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(STOP_S)
        os._exit(1)


if __name__ == "__main__":
    _serve()
