import logging
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from flows.learning import flow
from flows.state import last_training
from flows.workspace import Workspace
from training.config import load_config
from training.report.tensorboard import PHOTOS
from training.run.description import read_photos
from training.run.ledger import Ledger


def test_a_run_has_its_report_and_prefect_says_where(trained: Workspace):
    last = last_training(trained)
    assert last is not None
    layout = trained.run(last.key)
    page = layout.report.read_text(encoding="utf-8")
    assert "Finished: all 14 stages of 1 round are done." in page
    noted = read_photos(layout)
    assert noted is not None
    assert page.count("<article") == len(noted.photos) == 22
    assert all(photo.path.is_file() for photo in noted.photos)
    with get_client(sync_client=True) as client:
        artifacts = client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["report"])))
    assert any("report.html" in str(each.data).replace("\\", "") for each in artifacts)


def test_a_run_is_written_for_tensorboard(trained: Workspace):
    last = last_training(trained)
    assert last is not None
    events = EventAccumulator(str(trained.tensorboard(last.key)), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    decision = Ledger(trained.run(last.key).ledger).find(1, "decision")
    assert decision is not None
    (estimated,) = events.Scalars("estimate/mIoU")
    assert (estimated.step, estimated.value) == (1, pytest.approx(decision["estimate"]["miou"]))
    assert "loss/round-1-pixelnet" in events.Tags()["scalars"]
    assert [tag.partition("/")[0] for tag in events.Tags()["images"]] == ["photos"] * PHOTOS


def test_a_report_that_fails_is_no_reason_to_fail(
    trained: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    last = last_training(trained)
    assert last is not None
    layout = trained.run(last.key)
    before = layout.report.read_bytes()

    def break_down(*arguments: object, **named: object) -> None:
        raise ZeroDivisionError("nothing to divide by")

    monkeypatch.setattr(flow, "write_report", break_down)
    with caplog.at_level(logging.WARNING):
        flow._report(layout, last.photos)
    assert "no report of the run (ZeroDivisionError: nothing to divide by)" in caplog.text
    assert layout.report.read_bytes() == before


def test_the_log_says_what_to_expect_which_class_is_hardly_ever_painted_and_that_saliency_is_useless(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    estimate = {"miou": 43.6, "error": 8, "iou": {}, "remarks": []}
    ledger.add(1, "evidence", saliency_agreement=0.5)
    ledger.add(1, "decision", painted={"cat": 0.9, "dog": 0.04}, estimate=estimate)
    ledger.add(2, "decision", painted={"cat": 0.0, "dog": 0.04})
    with caplog.at_level(logging.INFO):
        flow._log_quality(ledger, 1, load_config(overrides={"saliency.network": "isnet.onnx"}))
    expected, useless, warning = caplog.messages
    assert expected == "estimated mIoU 44 ± 8 with tags given"
    assert useless.startswith("saliency network isnet.onnx: agrees with the tags at 0.50")
    assert warning.startswith("dog: painted on 4% of the photos with its tag;")
