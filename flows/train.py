"""The flow `train`: from tagged photos to the first champion."""

from pathlib import Path
from typing import Any

from prefect import State, flow

from flows.collection.flow import collect
from flows.collection.sources import Source
from flows.learning.flow import learn
from flows.orchestration.notifications import notify_failure
from flows.orchestration.runs import exclusive_run, outcome
from flows.planning import NothingToTrain, plan_training, resume_training
from flows.promotion.comparison import compare_with_champion
from flows.promotion.publication import promote
from flows.retention import tidy
from flows.settings import FlowSettings
from flows.state import last_training, record_end, record_start
from flows.workspace import Busy, Workspace
from tagmask.store import Store


@flow(name="train", on_failure=[notify_failure], on_crashed=[notify_failure])
def train(
    workspace: Path,
    sources: list[Source | Path],
    settings: FlowSettings = FlowSettings(),  # noqa: B008  # immutable
    store: Path | None = None,
    force: bool = False,
) -> State[Any]:
    """Train from scratch on all photos, and promote the result if it is better than the champion.

    `sources` are folders or lists of tagged photos, which are copied into `workspace`. `store` is the folder of
    bundles, WORKSPACE/store by default. `force` trains again on unchanged photos and settings.
    """
    folder = Workspace(workspace.absolute())
    bundles = Store(store or folder.store)
    try:
        with exclusive_run(folder, settings):
            snapshot = collect(folder, sources, settings)
            unfinished = resume_training(folder, snapshot, settings)
            training = unfinished or plan_training(folder, snapshot, settings, force=force)
            if isinstance(training, NothingToTrain):
                tidy(folder, bundles, settings.retention, last_training(folder))
                return outcome("Unchanged", training.reason)
            record_start(folder, training)
            result = learn(folder, training.request, settings)
            decision = compare_with_champion(bundles, result, training.held_out, settings)
            promotion = promote(folder, bundles, result, decision)
            finished = record_end(folder, training, result, promotion)
            tidy(folder, bundles, settings.retention, finished)
            return outcome(promotion.outcome, promotion.sentence)
    except Busy as error:
        return outcome("Skipped", str(error))
