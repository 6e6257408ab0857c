"""The flow `retrain`: what keeps a champion fresh while tagged photos keep arriving."""

from pathlib import Path
from typing import Any

from prefect import State, flow

from flows.collection.sources import Source
from flows.cycle import Cycle, run
from flows.orchestration.notifications import tell
from flows.orchestration.schedule import cover_missed
from flows.settings import FlowSettings
from flows.workspace import Workspace
from tagmask.store import Store


@flow(name="retrain", on_running=[cover_missed], on_failure=[tell], on_crashed=[tell])
def retrain(
    workspace: Path,
    sources: list[Source | Path],
    settings: FlowSettings = FlowSettings(),  # noqa: B008  # it cannot change
    store: Path | None = None,
    force: bool = False,
) -> State[Any]:
    """Retrain on what is new, from the champion on, when there is reason to, and promote the result if it is better.

    `sources` are folders or lists of tagged photos; what they show is taken into `workspace`. `store` is where bundles
    go, WORKSPACE/store unless named. `force` retrains without another reason.
    """
    folder = Workspace(workspace.absolute())
    return run(Cycle(folder, Store(store or folder.store), sources, settings, force=force, again=False))
