"""The flow `train`: from tagged photos to the first champion."""

from functools import partial
from pathlib import Path
from typing import Any

from prefect import State, flow

from flows.collection.sources import Source
from flows.cycle import run_cycle
from flows.orchestration.notifications import notify_failure
from flows.planning import plan_training
from flows.settings import FlowSettings
from tagmask.inputs import Location


@flow(name="train", on_failure=[notify_failure], on_crashed=[notify_failure])
def train(
    workspace: Path,
    sources: list[Source | Location],
    settings: FlowSettings = FlowSettings(),  # noqa: B008  # immutable
    store: Location | None = None,
    force: bool = False,
) -> State[Any]:
    """Train from scratch on all photos, and promote the result if it is better than the champion.

    `sources` are folders, lists or URLs of tagged photos, which are copied into `workspace`. `store` is the folder or
    URL of bundles, WORKSPACE/store by default. `force` trains again on unchanged photos and settings.
    """
    return run_cycle(workspace, sources, settings, store, partial(plan_training, force=force))
