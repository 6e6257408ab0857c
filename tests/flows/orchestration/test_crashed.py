import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest
from prefect import flow, task
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling, Completed, Pending, Running, Scheduled

from flows.orchestration import crashed, pages
from flows.orchestration.crashed import mark_crashed_runs, workspace_tag
from flows.settings import NotifySettings
from flows.workspace import Workspace
from tests.flows.orchestration.test_notifications import copying

NOBODY = NotifySettings()


@flow
def working(root: Path) -> tuple[str, ...]:
    """Take the workspace, and mark the runs that died in it."""
    with Workspace(root).lock("working", wait=False):
        return mark_crashed_runs(root, NOBODY)


@task
def toiling(ready: Path) -> None:
    ready.touch()
    time.sleep(100)


@flow
def parent(root: Path, ready: Path) -> None:
    with Workspace(root).lock("parent", wait=False):
        mark_crashed_runs(root, NOBODY)
        child(ready)


@flow
def child(ready: Path) -> None:
    toiling(ready)


@pytest.fixture
def client(prefect_api: str) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture(autouse=True)
def less_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crashed, "GRACE_S", 1.5)


def tagged(client: SyncPrefectClient, root: Path, *states: object) -> FlowRun:
    """A run of no process that carries the workspace's tag and went through `states`."""
    run = client.create_flow_run(child, parameters={"ready": "x"}, tags=[workspace_tag(root)])
    for state in states:
        client.set_flow_run_state(run.id, state)
    return run


def test_a_killed_run_crashes_with_all_that_it_started(client: SyncPrefectClient, tmp_path: Path):
    root, ready, line = tmp_path / "workspace", tmp_path / "ready", tmp_path / "line"
    process = subprocess.Popen([sys.executable, __file__, str(root), str(ready)])
    wait_for(ready.exists)
    wait_for(lambda: any(each.name.startswith("toiling") for each in client.read_task_runs()))  # reported in background
    process.kill()
    process.wait()

    @flow(name="next")
    def following() -> tuple[str, ...]:
        with Workspace(root).lock("next", wait=False):
            return mark_crashed_runs(root, NotifySettings(command=copying(line)))

    (name,) = following()
    runs = {run.name: run for run in client.read_flow_runs()}
    died = runs[name]
    assert died.state_type == StateType.CRASHED
    assert "its process ended without reporting a state; found by run" in died.state.message
    (below,) = [run for run in runs.values() if run.parent_task_run_id and run.state_type == StateType.CRASHED]
    tasks = client.read_task_runs()
    (toil,) = [each for each in tasks if each.name.startswith("toiling")]
    assert toil.state_type == StateType.CRASHED
    assert toil.flow_run_id == below.id
    event = json.loads(line.read_text())
    assert (event["flow"], event["run"], event["state"]) == ("parent", name, "crashed")
    assert event["url"].endswith(str(died.id))
    assert following() == (), "each is reported once"


def test_only_runs_that_held_the_lock_and_never_ended_are_marked(client: SyncPrefectClient, tmp_path: Path):
    waiting = client.create_flow_run(child, parameters={"ready": "x"})
    client.set_flow_run_state(waiting.id, Running())
    planned = tagged(client, tmp_path, Scheduled())
    cancelled = tagged(client, tmp_path, Running(), Cancelling())
    ending = tagged(client, tmp_path, Running())
    dead = tagged(client, tmp_path, Running())
    threading.Timer(0.7, lambda: client.set_flow_run_state(ending.id, Completed())).start()
    assert set(working(tmp_path)) == {cancelled.name, dead.name}
    states = {run.id: client.read_flow_run(run.id).state_type for run in (waiting, planned, cancelled, ending, dead)}
    assert states == {
        waiting.id: StateType.RUNNING,
        planned.id: StateType.SCHEDULED,
        cancelled.id: StateType.CANCELLED,
        ending.id: StateType.COMPLETED,
        dead.id: StateType.CRASHED,
    }


def test_all_tasks_of_a_killed_run_are_marked(
    client: SyncPrefectClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pages, "PAGE", 2)
    run = tagged(client, tmp_path, Running())
    for number in range(5):
        client.create_task_run(toiling, run.id, str(number), state=Running())
    assert working(tmp_path) == (run.name,)
    tasks = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id])))
    assert [each.state_type for each in tasks] == [StateType.CRASHED] * 5


def test_the_slot_of_the_deployment_is_free_again(client: SyncPrefectClient, tmp_path: Path):
    flow_id = client.create_flow(child)
    deployment = client.create_deployment(flow_id, "limited", concurrency_limit=1)
    run = client.create_flow_run_from_deployment(deployment, tags=[workspace_tag(tmp_path)])
    client.set_flow_run_state(run.id, Pending())
    client.set_flow_run_state(run.id, Running())
    assert slots(client, deployment) == 1
    assert working(tmp_path) == (run.name,)
    assert slots(client, deployment) == 0


def test_without_the_server_work_goes_on(prefect_api: str, tmp_path: Path):
    @flow
    def cut_off() -> tuple[str, ...]:
        with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
            return mark_crashed_runs(tmp_path, NOBODY)

    assert cut_off() == ()


def test_a_workspace_has_one_tag_and_its_copy_another(tmp_path: Path):
    root = tmp_path / "birds"
    root.mkdir()
    tag = workspace_tag(root)
    assert tag.startswith("workspace:birds-")
    assert workspace_tag(root) == tag
    moved = root.rename(tmp_path / "moved")
    assert workspace_tag(moved) == tag
    copy = Path(shutil.copytree(moved, root))
    assert workspace_tag(copy) not in (tag, "")
    (moved / "tag").write_text("damaged")
    assert workspace_tag(moved) == workspace_tag(moved) != tag


def slots(client: SyncPrefectClient, deployment: UUID) -> int:
    limit = client.read_deployment(deployment).global_concurrency_limit
    assert limit is not None
    return limit.active_slots


def wait_for(true: Callable[[], bool]) -> None:
    limit = time.monotonic() + 60
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.1)


if __name__ == "__main__":
    parent(Path(sys.argv[1]), Path(sys.argv[2]))
