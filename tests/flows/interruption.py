"""Workspaces as killed flows leave them."""

import shutil
from datetime import UTC, datetime

from flows.learning.flow import TrainingRequest
from flows.settings import FlowSettings
from flows.state import PlannedTraining, last_training, record_start
from flows.workspace import Workspace
from training.run.description import read_description


def interrupt(workspace: Workspace, settings: FlowSettings) -> PlannedTraining:
    """Undo the end of the last training, as if its flow had been killed once its bundle was published."""
    last = last_training(workspace)
    assert last is not None
    description = read_description(workspace.run(last.key))
    request = TrainingRequest(
        photos=last.photos,
        count=description.photos,
        data_digest=last.data_digest,
        classes=description.classes,
        config=settings.train,
    )
    held_out = last.photos.with_suffix(".held-out.jsonl")
    training = PlannedTraining(
        request=request, held_out=held_out, precision="fp32", reason="it was forced", planned_at=datetime.now(UTC)
    )
    workspace.last.unlink()
    record_start(workspace, training)
    return training


def undo_stages(workspace: Workspace, settings: FlowSettings, *stages: str) -> None:
    """Interrupt the last training, and remove its ledger and what `stages`, such as "round-1-labels", have written."""
    interrupt(workspace, settings)
    for run in workspace.runs.iterdir():
        (run / "ledger.jsonl").unlink()
    for stage in stages:
        (folder,) = workspace.stages.glob(f"{stage}-*")
        shutil.rmtree(folder)
