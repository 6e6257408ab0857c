"""The steps that the flows `train` and `retrain` have in common; they differ in whether and what to train."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect import State

from flows.collection.flow import collect
from flows.collection.snapshots import Snapshot
from flows.collection.sources import Source
from flows.forgetting import forgetting
from flows.learning.flow import learn
from flows.orchestration.runs import exclusive_run, outcome
from flows.orchestration.task_runners import server_known
from flows.planning import NothingToTrain, resume_training
from flows.promotion.comparison import compare_with_champion
from flows.promotion.publication import promote
from flows.retention import tidy
from flows.settings import FlowSettings
from flows.state import PlannedTraining, last_training, record_end, record_start
from flows.workspace import Busy, Workspace
from tagmask.inputs import Location, local_path
from tagmask.store import Store

Plan = Callable[[Workspace, Snapshot, FlowSettings], PlannedTraining | NothingToTrain]


def run_cycle(
    workspace: Path, sources: list[Source | Location], settings: FlowSettings, store: Location | None, plan: Plan
) -> State[Any]:
    """Collect photos, train if `plan` finds a reason to, compare with the champion, promote and tidy."""
    folder = Workspace(local_path(workspace).absolute(), store)
    bundles = Store(folder.store)
    try:
        with exclusive_run(folder, settings), forgetting(folder, sources), server_known():
            snapshot = collect(folder, sources, settings)
            training = resume_training(folder, snapshot, settings) or plan(folder, snapshot, settings)
            if isinstance(training, NothingToTrain):
                tidy(folder, bundles, settings.retention, last_training(folder))
                return outcome("Unchanged", training.reason)
            record_start(folder, training)
            result = learn(folder, training.request, settings)
            photos, held_out = training.request.photos, training.held_out
            decision = compare_with_champion(bundles, result, photos, held_out, settings)
            promotion = promote(folder, bundles, result, decision)
            finished = record_end(folder, training, result, promotion)
            tidy(folder, bundles, settings.retention, finished)
            return outcome(promotion.outcome, promotion.sentence)
    except Busy as error:
        return outcome("Skipped", str(error))
