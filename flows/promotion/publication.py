"""Publication of a finished training's bundle, and its promotion if the gate decided so.

Each part is done once: after a kill in between, the next flow resumes from what the store already holds.
"""

import shutil

from pydantic import BaseModel

from flows.learning.flow import TrainingResult
from flows.orchestration.progress import run_logger
from flows.orchestration.tables import classes_artifact, promotion_artifact
from flows.promotion.gate import GateDecision, text
from flows.workspace import Workspace
from tagmask import files
from tagmask.bundle import write_decision
from tagmask.store import Store
from training.run.layout import Layout
from training.run.start import read_start


class Promotion(BaseModel, frozen=True):
    """Whether a bundle became champion, and why, in one sentence."""

    version: str
    promoted: bool
    reason: str

    @property
    def outcome(self) -> str:
        return "Promoted" if self.promoted else "Kept"

    @property
    def sentence(self) -> str:
        return f"{self.version} {'is champion' if self.promoted else 'is not promoted'}: {self.reason}"


def promote(workspace: Workspace, store: Store, result: TrainingResult, decision: GateDecision | None) -> Promotion:
    """Publish a finished training's bundle with its `decision`, and promote it if that is the decision.

    None stands for a bundle that already is the champion. The decision is also recorded in the store's history and
    shown in the Prefect UI. Raises BundleError when the store cannot be written, or somebody else has changed the
    champion since the comparison.
    """
    keep_weights(workspace, result)
    if decision is not None and result.version not in store.versions():  # published bundles are immutable
        write_decision(result.model, decision.model_dump(mode="json"))
    if not store.is_intact(result.version):
        store.publish(result.model)
    if decision is None:
        return Promotion(version=result.version, promoted=True, reason="it already is the champion")
    _report(store, decision)
    if decision.promoted:
        store.promote(result.version, expected=decision.champion)
    return Promotion(version=result.version, promoted=decision.promoted, reason=decision.reason)


def keep_weights(workspace: Workspace, result: TrainingResult) -> None:
    """Copy a run's networks to the folder of its bundle's version, so that later trainings can start from them."""
    target, run = workspace.weights(result.version), Layout(result.model.parent)
    if (target / run.description.name).is_file():
        return
    records = (file for file in (run.samples, run.corrected) if file.is_file())
    for file in (*read_start(run).files(), *records):
        with file.open("rb") as source, files.atomic_write(target / file.relative_to(run.root)) as copy:
            shutil.copyfileobj(source, copy)
    for file in (run.ledger, run.description):  # the description last: it makes the folder a run
        files.write_text(target / file.name, file.read_text(encoding="utf-8"))


def _report(store: Store, decision: GateDecision) -> None:
    """Show the decision in the store's history, in the Prefect UI and in the log."""
    comparison = decision.comparison
    reasons = [rule.sentence for rule in decision.rules] or [decision.reason]
    figures = comparison.model_dump(mode="json", exclude={"faults"})
    store.record_decision(decision.challenger, promoted=decision.promoted, reasons=reasons, figures=figures)
    promotion_artifact(decision).publish()
    if comparison.challenger.iou:
        classes_artifact(comparison).publish()
    run_logger()[0].info(text(decision))
