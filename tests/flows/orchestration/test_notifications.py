import json
import logging
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from uuid import UUID

import pytest
from prefect import flow
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import get_client
from prefect.exceptions import ParameterTypeError

from flows.orchestration import notifications as module
from flows.orchestration.notifications import Event, notify, notify_failure
from flows.settings import FlowSettings, NotifySettings, load_notify, load_settings
from tagmask.errors import ConfigError

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


def test_a_command_may_print_any_bytes(errors: list[str]):
    notify(NotifySettings(command=(sys.executable, "-c", "import os; os.write(1, b'\\xe9')")), EVENT)
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


def test_a_flow_that_fails_tells_whom_the_environment_names(
    prefect_api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TAGMASK_NOTIFY", NotifySettings(command=copying(tmp_path / "line")).model_dump_json())
    with pytest.raises(ValueError, match="nothing"):
        failing(tmp_path, FlowSettings())
    event = json.loads((tmp_path / "line").read_text())
    assert (event["flow"], event["state"], event["workspace"]) == ("failing", "failed", str(tmp_path))
    assert f"nothing in {tmp_path.name}" in event["message"]
    assert event["url"].startswith(prefect_api.removesuffix("/api"))
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(UUID(event["url"].rsplit("/", 1)[1])).name == event["run"]


@pytest.mark.parametrize("notify", [{"command": ["touch", "RAN"]}, {"block": "custom-webhook/ops"}, {}])
def test_a_run_whose_parameters_name_a_command_is_refused(
    prefect_api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notify: dict[str, object]
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParameterTypeError, match=r"settings\.notify is not accepted.*--config.*TAGMASK_NOTIFY"):
        failing(tmp_path, {"notify": notify})
    assert list(tmp_path.iterdir()) == []


def test_the_file_says_whom_before_the_environment_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TAGMASK_NOTIFY", '{"block": "slack-webhook/environment"}')
    (tmp_path / "without.toml").write_text("[trigger]\nnew_photos = 5\n")
    (tmp_path / "with.toml").write_text("[notify]\nblock = 'slack-webhook/file'\n")
    assert load_notify(None) == load_notify(tmp_path / "without.toml")
    assert load_notify(None).block == "slack-webhook/environment"
    assert load_notify(tmp_path / "with.toml").block == "slack-webhook/file"
    load_settings(tmp_path / "with.toml")


@pytest.mark.parametrize("value", ["page-me", '{"command": "page-me"}', '{"shell": "page-me"}'])
def test_an_environment_that_is_not_understood_is_named(value: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TAGMASK_NOTIFY", value)
    with pytest.raises(ConfigError, match=r"^TAGMASK_NOTIFY: "):
        load_notify(None)
