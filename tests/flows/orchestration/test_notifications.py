import json
import logging
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest
from prefect import flow
from prefect.blocks.notifications import CustomWebhookNotificationBlock

from flows.orchestration import notifications as module
from flows.orchestration.notifications import Event, notify, notify_failure
from flows.settings import FlowSettings, NotifySettings

EVENT = Event(
    flow="retrain",
    run="happy-otter",
    workspace="/srv/tagmask",
    state="failed",
    message="inbox 'x' is empty; $(exit 3)",
    url="http://127.0.0.1:4200/runs/flow-run/1",
    time=datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC),
)
COPY = "import shutil, sys; shutil.copyfileobj(sys.stdin, open(sys.argv[1], 'w'))"


def copying(file: Path) -> tuple[str, ...]:
    """A command that copies its input to `file`."""
    return (sys.executable, "-c", COPY, str(file))


@flow
def failing(workspace: Path, settings: FlowSettings) -> None:
    raise ValueError(f"nothing in {workspace.name}")


failing.on_failure(notify_failure)


@pytest.fixture
def errors() -> Iterator[list[str]]:
    """What was logged; Prefect's loggers do not pass it on."""
    logged: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: logged.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("prefect.tagmask.notify")
    logger.addHandler(handler)
    yield logged
    logger.removeHandler(handler)


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Address of an HTTP server, and what was posted to it."""
    posted: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            posted.append({**body, "token": self.headers["X-Token"]})
            self.send_response(500 if self.path == "/broken" else 200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", posted
        server.shutdown()


def test_a_command_gets_one_line_of_json(tmp_path: Path, errors: list[str]):
    notify(NotifySettings(command=copying(tmp_path / "line")), EVENT)
    line = (tmp_path / "line").read_text()
    assert line.count("\n") == 1
    assert json.loads(line) == {
        "flow": "retrain",
        "run": "happy-otter",
        "workspace": "/srv/tagmask",
        "state": "failed",
        "message": "inbox 'x' is empty; $(exit 3)",
        "url": "http://127.0.0.1:4200/runs/flow-run/1",
        "time": "2026-05-04T03:02:01+00:00",
    }
    assert not errors


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (("/absent/mail",), "No such file"),
        ((sys.executable, "-c", "import sys; sys.exit('no route')"), "exit status 1: no route"),
        ((sys.executable, "-c", "import time; time.sleep(60)"), "timed out after 0.5 seconds"),
    ],
)
def test_what_a_command_does_wrong_is_only_logged(
    command: tuple[str, ...], why: str, errors: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "COMMAND_S", 0.5)
    notify(NotifySettings(command=command), EVENT)
    (error,) = errors
    assert why in error
    assert "notify.command" in error


def test_a_block_sends_subject_and_body_with_its_own_secrets(
    prefect_api: str, webhook: tuple[str, list[dict[str, str]]]
):
    url, posted = webhook
    block = {"text": "{{body}}", "title": "{{subject}}"}
    secrets = {"token": "s3cret"}
    CustomWebhookNotificationBlock(
        name="ops", url=url, json_data=block, headers={"X-Token": "{{token}}"}, secrets=secrets
    ).save("ops")
    notify(NotifySettings(block="custom-webhook/ops"), EVENT)
    (message,) = posted
    assert message["title"] == "Tagmask: retrain failed"
    assert message["text"].splitlines() == [
        "Run happy-otter of retrain failed: inbox 'x' is empty; $(exit 3)",
        "workspace /srv/tagmask",
        "http://127.0.0.1:4200/runs/flow-run/1",
        "2026-05-04 03:02:01 UTC",
    ]
    assert message["token"] == "s3cret"


def test_what_a_block_does_wrong_is_only_logged(
    prefect_api: str, webhook: tuple[str, list[dict[str, str]]], errors: list[str]
):
    CustomWebhookNotificationBlock(name="broken", url=f"{webhook[0]}/broken", json_data={}).save("broken")
    notify(NotifySettings(block="custom-webhook/broken"), EVENT)
    notify(NotifySettings(block="custom-webhook/absent"), EVENT)
    broken, absent = errors
    assert "500" in broken
    assert "absent" in absent


def test_a_flow_that_fails_tells_whom_its_parameters_name(prefect_api: str, tmp_path: Path):
    settings = FlowSettings(notify=NotifySettings(command=copying(tmp_path / "line")))
    with pytest.raises(ValueError, match="nothing"):
        failing(tmp_path, settings)
    event = json.loads((tmp_path / "line").read_text())
    assert (event["flow"], event["state"], event["workspace"]) == ("failing", "failed", str(tmp_path))
    assert f"nothing in {tmp_path.name}" in event["message"]
    assert event["url"].startswith(prefect_api.removesuffix("/api"))
    run = httpx.get(f"{prefect_api}/flow_runs/{event['url'].rsplit('/', 1)[1]}").json()
    assert run["name"] == event["run"]
