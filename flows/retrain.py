"""The flow `retrain`: keeps the champion up to date while tagged photos keep arriving."""

from functools import partial
from pathlib import Path
from typing import Any

from prefect import State, flow

from flows.collection.sources import Source
from flows.cycle import run_cycle
from flows.orchestration.notifications import notify_failure
from flows.orchestration.schedule import cancel_missed_runs
from flows.planning import plan_retraining
from flows.settings import FlowSettings
from tagmask.inputs import Location


@flow(name="retrain", on_running=[cancel_missed_runs], on_failure=[notify_failure], on_crashed=[notify_failure])
def retrain(
    workspace: Path,
    sources: list[Source | Location],
    settings: FlowSettings = FlowSettings(),  # noqa: B008  # immutable
    store: Location | None = None,
    force: bool = False,
) -> State[Any]:
    """Train from the champion when there is a reason to, and promote the result if it is better.

    `sources` are folders, lists or URLs of tagged photos, which are copied into `workspace`. `store` is the folder or
    URL of bundles, WORKSPACE/store by default. `force` retrains without any other reason.
    """
    return run_cycle(workspace, sources, settings, store, partial(plan_retraining, force=force))
