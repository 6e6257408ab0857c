"""What a workspace remembers of trainings: the one that is not finished yet, and the last that is."""

from datetime import datetime
from pathlib import Path
from typing import TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from flows.learning.flow import TrainingRequest
from flows.workspace import Workspace
from tagmask import files
from tagmask.bundle import Precision
from tagmask.errors import RunError


class Training(BaseModel):
    """A training that was decided on: what it learns from, the held-out list, and why it is done."""

    model_config = ConfigDict(frozen=True)

    asked: TrainingRequest
    held_out: Path
    precision: Precision
    reason: str
    begun: AwareDatetime


class Last(BaseModel):
    """The last finished training: its list of photos, the key of its run, and what became of its bundle."""

    model_config = ConfigDict(frozen=True)

    photos: Path
    data_digest: str
    key: str
    version: str
    promoted: bool
    reason: str
    ended: AwareDatetime


_Document = TypeVar("_Document", Training, Last)


def unfinished(workspace: Workspace) -> Training | None:
    """The training that was begun and has not ended. Raises RunError when its file is damaged."""
    return _read(workspace.root / "training.json", Training)


def last(workspace: Workspace) -> Last | None:
    """The last training that ended. Raises RunError when its file is damaged."""
    return _read(workspace.root / "last.json", Last)


def begin(workspace: Workspace, training: Training) -> None:
    """Remember that `training` is to be finished."""
    files.write_text(workspace.root / "training.json", training.model_dump_json(indent=2) + "\n")


def end(workspace: Workspace, ended: Last) -> None:
    """Remember what became of the training that was begun."""
    files.write_text(workspace.root / "last.json", ended.model_dump_json(indent=2) + "\n")
    (workspace.root / "training.json").unlink(missing_ok=True)


def days_since(moment: datetime, now: datetime) -> float:
    """Days from `moment` to `now`."""
    return (now - moment).total_seconds() / 86_400


def _read(path: Path, kind: type[_Document]) -> _Document | None:
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as fault:
        raise RunError(f"{path}: cannot be read ({fault.strerror}); let this process read it") from fault
    except ValidationError as fault:
        first = fault.errors()[0]
        name = "".join(f" {part}" for part in first["loc"])
        raise RunError(
            f"{path}: damaged{name} ({first['msg']}); remove it, and what it speaks of is done anew"
        ) from fault
