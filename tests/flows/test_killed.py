"""`tagmask flow train` with a pool of processes, killed for real; more of it in benchmarks/chaos.py."""

import re

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterParentFlowRunId,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort

from benchmarks.chaos import Chaos, Kill, finished, half_written
from benchmarks.flows import toml
from flows.orchestration.crashed import workspace_tag
from flows.state import last_training
from flows.train import train
from flows.workspace import Workspace
from tagmask.bundle import read_metadata
from tests.flows.interruption import undo_stages

UNDONE = ("superpixels", "saliency", "round-1-seeds", "round-1-refinement", "round-1-labels", "round-1-pixelnet")


def test_killed_flows_go_on_and_end_like_one_that_was_not(trained, workspace, drawn, tiny, tmp_path):
    undo_stages(workspace, tiny, *UNDONE)
    initial = finished(workspace.root)
    tasks = tiny.tasks.model_copy(update={"runner": "processes", "workers": 2})
    settings = tiny.model_copy(update={"tasks": tasks})
    chaos = Chaos(tmp_path, drawn, toml(settings.model_dump(mode="json", exclude_none=True)))

    flow = chaos.start(workspace.root, Kill("write", 20, "flow", "before"))
    assert flow.code == -9
    assert flow.survivors == ()
    assert half_written(workspace.root)
    before = finished(workspace.root)
    assert initial.items() < before.items()

    worker = chaos.start(workspace.root, Kill("write", 45, "writer", "before"))
    assert worker.code == 2, worker.output
    assert re.search(
        r"error: a worker process was killed in [a-z0-9: ]+, probably because memory ran out", worker.output
    )
    assert "Traceback" not in worker.output
    assert "resuming the training of" in worker.output
    assert worker.survivors == ()
    halfway = finished(workspace.root)
    assert before.items() < halfway.items()

    last = train(workspace.root, [drawn], settings, return_state=True)
    assert last.name == "Promoted", last.message
    assert halfway.items() <= finished(workspace.root).items()
    assert half_written(workspace.root) == []
    assert digest(workspace) == digest(trained)

    with get_client(sync_client=True) as client:
        tagged = FlowRunFilter(tags=FlowRunFilterTags(all_=[workspace_tag(workspace.root)]))
        runs = client.read_flow_runs(flow_run_filter=tagged, sort=FlowRunSort.START_TIME_ASC)
        assert states(runs) == ["Crashed", "Failed", "Promoted"]
        parents = FlowRunFilterParentFlowRunId(any_=[run.id for run in runs])
        parts = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(parent_flow_run_id=parents), sort=FlowRunSort.START_TIME_ASC
        )
        assert states(parts) == ["Completed", "Crashed", "Completed", "Failed", "Completed", "Completed"]
        within = FlowRunFilter(id=FlowRunFilterId(any_=[run.id for run in (*runs, *parts)]))
        tasks = client.read_task_runs(flow_run_filter=within)
        assert [task.name for task in tasks if task.state and task.state.is_running()] == []


def states(runs: list[FlowRun]) -> list[str | None]:
    return [run.state.name if run.state else None for run in runs]


def digest(workspace: Workspace) -> str:
    last = last_training(workspace)
    assert last is not None
    return read_metadata(workspace.run(last.key).model).weights_digest
