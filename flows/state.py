"""The state of a workspace between flows: the training in progress, and the last finished one."""

from datetime import UTC, datetime
from pathlib import Path

from pydantic import AwareDatetime, BaseModel

from flows.learning.flow import TrainingRequest, TrainingResult
from flows.promotion.publication import Promotion
from flows.workspace import Workspace
from tagmask import files
from tagmask.errors import RunError
from tagmask.inputs import Precision

REMEDY = "remove it, and the training starts over"
"""For a file that is damaged, or of another version of Tagmask."""


class PlannedTraining(BaseModel, frozen=True):
    """A training that was decided on: its request, the held-out list to compare on, and the reason for it."""

    request: TrainingRequest
    held_out: Path
    precision: Precision
    reason: str
    planned_at: AwareDatetime


class FinishedTraining(BaseModel, frozen=True):
    """The last finished training: its list of photos, the key of its run, and the promotion of its bundle."""

    photos: Path
    data_digest: str
    key: str
    promotion: Promotion
    finished_at: AwareDatetime


def training_in_progress(workspace: Workspace) -> PlannedTraining | None:
    """The training that was started and has not finished. Raises RunError for a damaged file."""
    return files.read_model(workspace.training, PlannedTraining, error=RunError, remedy=REMEDY)


def last_training(workspace: Workspace) -> FinishedTraining | None:
    """The last finished training. Raises RunError for a damaged file."""
    return files.read_model(workspace.last, FinishedTraining, error=RunError, remedy=REMEDY)


def record_start(workspace: Workspace, training: PlannedTraining) -> None:
    """Record that `training` has to be finished, by this flow or a later one."""
    files.write_text(workspace.training, training.model_dump_json(indent=2) + "\n")


def record_end(
    workspace: Workspace, training: PlannedTraining, result: TrainingResult, promotion: Promotion
) -> FinishedTraining:
    """Record the result of the training in progress."""
    finished = FinishedTraining(
        photos=training.request.photos,
        data_digest=training.request.data_digest,
        key=result.key,
        promotion=promotion,
        finished_at=datetime.now(UTC),
    )
    files.write_text(workspace.last, finished.model_dump_json(indent=2) + "\n")
    workspace.training.unlink(missing_ok=True)
    return finished
