from datetime import UTC, datetime
from pathlib import Path

import pytest

from flows.learning.flow import TrainingRequest, TrainingResult
from flows.promotion.publication import Promotion
from flows.state import PlannedTraining, last_training, record_end, record_start, training_in_progress
from flows.workspace import Workspace
from tagmask.errors import RunError
from training.config import load_config

NOW = datetime(2030, 5, 1, 3, tzinfo=UTC)
RESULT = TrainingResult(key="k", model=Path("/runs/k/model.onnx"), version="v")
PROMOTION = Promotion(version="v", promoted=False, reason="worse")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def planned() -> PlannedTraining:
    config = load_config(overrides={"rounds": 2, "crf.steps": 3})
    request = TrainingRequest(photos=Path("/data/a.jsonl"), count=3, data_digest="d", classes=("cat",), config=config)
    return PlannedTraining(
        request=request, held_out=Path("/data/b.jsonl"), precision="fp16", reason="forced", planned_at=NOW
    )


def test_a_training_is_in_progress_until_its_end_is_recorded(workspace):
    assert training_in_progress(workspace) is None
    assert last_training(workspace) is None
    record_start(workspace, planned())
    assert training_in_progress(workspace) == planned()
    assert last_training(workspace) is None
    finished = record_end(workspace, planned(), RESULT, PROMOTION)
    assert (finished.photos, finished.data_digest, finished.key) == (Path("/data/a.jsonl"), "d", "k")
    assert finished.promotion == PROMOTION
    assert training_in_progress(workspace) is None
    assert last_training(workspace) == finished


def test_after_a_kill_while_its_end_is_recorded_it_is_in_progress_and_may_end_again(workspace, monkeypatch):
    record_start(workspace, planned())

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            record_end(workspace, planned(), RESULT, PROMOTION)
    assert training_in_progress(workspace) == planned()
    record_end(workspace, planned(), RESULT, PROMOTION)
    assert training_in_progress(workspace) is None


@pytest.mark.parametrize("read", [training_in_progress, last_training])
@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"photos": 3}', b"\xff"])
def test_a_damaged_file_is_named(workspace, read, text):
    name = "training.json" if read is training_in_progress else "last.json"
    (workspace.root / name).write_bytes(text)
    with pytest.raises(RunError, match=f"{name}: damaged.*remove it"):
        read(workspace)
