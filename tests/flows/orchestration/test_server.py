import fcntl
import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, get_current_settings, temporary_settings

from flows.orchestration import server_process
from flows.orchestration.server import prefect_server
from tagmask.errors import RunError

# A shell makes background processes, and so their children, ignore interrupts.
USER = """
import signal
import time
from prefect import flow, get_run_logger
from flows.orchestration.server import prefect_server

@flow
def cleaning():
    get_run_logger().info("cleaned up")

signal.signal(signal.SIGINT, signal.default_int_handler)
with prefect_server() as url:
    print(url, flush=True)
    try:
        time.sleep(100)
    except KeyboardInterrupt:
        cleaning()
"""


def test_flows_and_subprocesses_use_one_server(prefect_api: str):
    assert get_current_settings().api.url == prefect_api == os.environ["PREFECT_API_URL"]
    with prefect_server() as url:
        assert url == prefect_api
    assert os.environ["PREFECT_API_URL"] == prefect_api


def test_the_prefect_ui_is_served_and_reports_to_nobody(prefect_api: str):
    root = prefect_api.removesuffix("/api")
    page = httpx.get(root, headers={"Accept": "text/html"}, follow_redirects=True)  # it asks for the password
    assert page.status_code == 200
    assert "<html" in page.text
    assert (
        httpx.get(f"{root}/ui-settings").json() | {"auth": "BASIC", "api_url": prefect_api}
        == httpx.get(f"{root}/ui-settings").json()
    )
    settings = httpx.get(f"{prefect_api}/admin/settings", auth=credentials()).json()["server"]
    assert not settings["analytics_enabled"]
    assert not settings["ui"]["show_promotional_content"]
    assert settings["concurrency"]["lease_storage"].endswith(".filesystem")


@pytest.mark.parametrize("path", ["automations/", "deployments/filter", "flow_runs/", "admin/database/clear"])
def test_pages_of_other_sites_start_nothing(prefect_api: str, path: str):
    foreign = {"Origin": "http://evil.example", "Content-Type": "text/plain"}
    assert httpx.post(f"{prefect_api}/{path}", content="{}", headers=foreign).status_code == 401
    wrong = httpx.post(f"{prefect_api}/{path}", json={}, auth=("tagmask", "guess"))
    assert wrong.status_code == 401


def test_a_foreign_host_is_refused_even_with_the_secret(prefect_api: str):
    for path in ("/", "/api/health", "/api/admin/version"):
        url = prefect_api.removesuffix("/api") + path
        port = httpx.URL(url).port
        codes = {
            host: httpx.get(url, headers={"Host": f"{host}:{port}"}, auth=credentials(), follow_redirects=False)
            for host in ("evil.example", "127.0.0.1.evil.example", "localhost", "127.0.0.1")
        }
        refused = [host for host, answer in codes.items() if answer.status_code == 400]
        assert refused == ["evil.example", "127.0.0.1.evil.example"]


def test_the_secret_is_its_home_folder_s_own_and_private(prefect_api: str, prefect_home: Path):
    file = prefect_home / "tagmask-server.auth"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text().strip() == ":".join(credentials()) == os.environ["PREFECT_API_AUTH_STRING"]


def test_a_server_that_dies_is_started_again_and_its_user_ends_when_that_fails(
    other_home: dict[str, str], taken_port: str
):
    environment = {**other_home, "PREFECT_SERVER_API_PORT": taken_port}
    process, url = user(environment)
    (server,) = psutil.Process(process.pid).children()
    server.kill()
    server.wait()
    limit = time.monotonic() + server_process.START_S
    while not (answers := answering(url)) and time.monotonic() < limit:
        time.sleep(0.2)
    assert answers
    assert process.poll() is None

    children = psutil.Process(process.pid).children()
    (server,) = [each for each in children if each.status() != psutil.STATUS_ZOMBIE]
    log = Path(environment["PREFECT_HOME"], "tagmask-server.log")
    log.unlink()
    log.mkdir()  # it cannot be written
    server.kill()
    assert process.wait(120) != 0
    assert not answering(url)


@pytest.mark.parametrize("name", [".", "tagmask-server.users", "tagmask-server.auth", "tagmask-server.log"])
def test_a_home_folder_that_cannot_be_written_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str):
    home = tmp_path / "home"
    if name == ".":
        home.touch()
    else:
        (home / name).mkdir(parents=True)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with (
        temporary_settings({PREFECT_HOME: home}, restore_defaults={PREFECT_API_URL}),
        pytest.raises(RunError, match=rf"^PREFECT_HOME {home}: cannot be written .*; choose another folder"),
    ):
        prefect_server().__enter__()


def test_a_server_that_is_named_must_be_there(prefect_api: str):
    url = "http://127.0.0.1:9/api"
    with temporary_settings({PREFECT_API_URL: url}), pytest.raises(RunError, match=f"{url}.*prefect server start"):
        prefect_server().__enter__()


@pytest.fixture
def other_home(tmp_path: Path, migrated: Path, prefect_api: str) -> dict[str, str]:
    """Environment of processes that know nothing of the server that the tests share."""
    (tmp_path / "prefect.db").write_bytes(migrated.read_bytes())
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    return {**environment, "PREFECT_HOME": str(tmp_path), "PREFECT_SERVER_UI_ENABLED": "false"}


@pytest.fixture
def taken_port() -> Iterator[str]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        yield str(other.getsockname()[1])


def test_a_server_lives_as_long_as_somebody_uses_it(other_home: dict[str, str], taken_port: str):
    environment = {**other_home, "PREFECT_SERVER_API_PORT": taken_port}
    starter, started = user(environment)
    (server,) = psutil.Process(starter.pid).children()
    assert not started.endswith(f":{taken_port}/api")
    second, shared = user(environment)
    assert shared == started
    starter.kill()
    starter.wait()
    assert httpx.get(f"{started}/health").json() is True
    os.killpg(second.pid, signal.SIGINT)
    assert second.wait(120) == 0, "the server runs while its last user cleans up"
    gone, _ = psutil.wait_procs([server], timeout=60)
    assert gone == [server]
    with sqlite3.connect(Path(environment["PREFECT_HOME"]) / "prefect.db") as database:
        logged = [message for (message,) in database.execute("SELECT message FROM log")]
    assert "cleaned up" in logged


def test_why_a_server_does_not_start(tmp_path: Path, taken_port: str, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", f"sqlite+aiosqlite:///{tmp_path}/file/prefect.db")
    with temporary_settings({PREFECT_HOME: tmp_path}):
        files = server_process.ServerFiles()
    with (
        files.lock_users(fcntl.LOCK_SH),
        pytest.raises(RunError, match=r"Prefect's server at \S+ ended with status \d+") as fault,
    ):
        server_process.start(files, int(taken_port), lambda: False)
    assert "unable to open database file" in str(fault.value), "the end of its output"


def test_a_server_that_is_late_and_has_said_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(server_process, "START_S", 0.0)
    with (
        temporary_settings({PREFECT_HOME: tmp_path}),
        pytest.raises(RunError, match=r"did not answer within 0 s; try again when this machine has less to do$"),
    ):
        server_process.start(server_process.ServerFiles(), 9, lambda: False)


def credentials() -> tuple[str, str]:
    """User and password of the server that the tests share."""
    auth = get_current_settings().api.auth_string
    assert auth is not None
    name, _, password = auth.get_secret_value().partition(":")
    return name, password


def answering(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.TransportError:
        return False


def user(environment: dict[str, str]) -> tuple[subprocess.Popen[str], str]:
    """A process that uses a server, and the address that it got."""
    process = subprocess.Popen(
        [sys.executable, "-c", USER], env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    limit = time.monotonic() + 60
    while not (line := process.stdout.readline().strip()) and time.monotonic() < limit:
        assert process.poll() is None
    return process, line
