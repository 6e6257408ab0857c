import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.activity import doing, recorded_activity, workers

CHILD = """
import os, signal
from service.activity import doing, observe_stage, recorded_activity
from service.telemetry import request_id

with recorded_activity():
    request_id.set("a-request")
    with doing("work", "/v1/segment/a/rather/long/path"):
        pass
    with doing("work", "/v1/segment"), observe_stage("decode"):
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("_TAGMASK_METRICS", str(tmp_path))
    return tmp_path


def test_what_a_killed_worker_was_doing_is_logged_once(folder: Path, caplog: pytest.LogCaptureFixture):
    child = subprocess.Popen([sys.executable, "-c", CHILD])
    assert child.wait(60) == -9
    assert workers() == ()
    for _ in range(2):
        with recorded_activity():
            pass
    (record,) = caplog.records
    assert record.getMessage() == "worker was killed, most likely for lack of memory"
    assert record.levelno == logging.ERROR
    (work,) = record.__dict__["in_work"]
    assert (work["request_id"], work["path"], work["stage"]) == ("a-request", "/v1/segment", "decode")
    assert record.__dict__["pid"] == child.pid
    assert not list(folder.glob("work-*"))


def test_a_running_worker_is_left_alone(folder: Path, caplog: pytest.LogCaptureFixture):
    (folder / "work-1").write_text("[]\n")
    with recorded_activity(), doing("work", "/v1/segment"):
        assert workers() == (1, os.getpid())
        (own,) = set(folder.glob("work-*")) - {folder / "work-1"}
        (work,) = json.loads(own.read_text().splitlines()[0])
        assert work["stage"] == "work"
    assert [path.name for path in folder.glob("work-*")] == ["work-1"]
    assert not caplog.records
