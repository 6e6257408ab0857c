"""The flow `train`: tagged photos in, the first champion out."""

from pathlib import Path
from typing import Any

from prefect import State, flow

from flows.collection.sources import Source
from flows.cycle import Cycle, run
from flows.orchestration.notifications import tell
from flows.settings import FlowSettings
from flows.workspace import Workspace
from tagmask.store import Store


@flow(name="train", on_failure=[tell], on_crashed=[tell])
def train(
    workspace: Path,
    sources: list[Source | Path],
    settings: FlowSettings = FlowSettings(),  # noqa: B008  # it cannot change
    store: Path | None = None,
    force: bool = False,
) -> State[Any]:
    """Train on everything from the start, and promote the result if it is better than the champion.

    `sources` are folders or lists of tagged photos; what they show is taken into `workspace`. `store` is where bundles
    go, WORKSPACE/store unless named. Unchanged photos and settings are not trained on again without `force`.
    """
    folder = Workspace(workspace.absolute())
    return run(Cycle(folder, Store(store or folder.store), sources, settings, force=force, again=True))
