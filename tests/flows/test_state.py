from datetime import UTC, datetime
from pathlib import Path

import pytest

from flows import state as workspace_state
from flows.learning.flow import TrainingRequest
from flows.state import Last, Training
from flows.workspace import Workspace
from tagmask.errors import RunError
from training.config import load_config

NOW = datetime(2030, 5, 1, 3, tzinfo=UTC)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def training() -> Training:
    config = load_config(overrides={"rounds": 2, "crf.steps": 3})
    asked = TrainingRequest(photos=Path("/data/a.jsonl"), count=3, data_digest="d", classes=("cat",), config=config)
    return Training(asked=asked, held_out=Path("/data/b.jsonl"), precision="fp16", reason="asked for", begun=NOW)


def ended() -> Last:
    return Last(
        photos=Path("/data/a.jsonl"), data_digest="d", key="k", version="v", promoted=False, reason="worse", ended=NOW
    )


def test_what_was_begun_is_unfinished_until_it_ends(workspace):
    assert memory.unfinished(workspace) is None
    assert memory.last(workspace) is None
    memory.begin(workspace, training())
    assert memory.unfinished(workspace) == training()
    assert memory.last(workspace) is None
    memory.end(workspace, ended())
    assert memory.unfinished(workspace) is None
    assert memory.last(workspace) == ended()


def test_killed_while_it_ends_it_is_still_unfinished_and_may_end_again(workspace, monkeypatch):
    memory.begin(workspace, training())

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            memory.end(workspace, ended())
    assert memory.unfinished(workspace) == training()
    memory.end(workspace, ended())
    assert memory.unfinished(workspace) is None


@pytest.mark.parametrize("read", [memory.unfinished, memory.last])
@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"photos": 3}', b"\xff"])
def test_a_damaged_file_is_named(workspace, read, text):
    name = "training.json" if read is memory.unfinished else "last.json"
    (workspace.root / name).write_bytes(text)
    with pytest.raises(RunError, match=f"{name}: damaged.*remove it"):
        read(workspace)
