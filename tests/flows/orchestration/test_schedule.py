import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Cancelled, State

from flows.orchestration.schedule import _local_timezone, cancel_missed_runs, read_times, schedule
from flows.workspace import Busy, Workspace
from tagmask.errors import ConfigError

NEVER = "0 3 29 2 *"
"""Not while the tests run, once in four years aside."""


@flow(on_running=[cancel_missed_runs])
def working(root: Path, wait: bool, seconds: float) -> State | None:
    """Hold the workspace for `seconds`, and note when."""
    begun = time.time()
    try:
        with Workspace(root).lock("working", wait=wait):
            time.sleep(seconds)
            (root / f"{begun}.json").write_text(json.dumps([begun, time.time()]))
    except Busy as error:
        return Cancelled(message=str(error))
    return None


@contextmanager
def scheduled(name: str, root: Path, cron: str, if_busy: str, seconds: float) -> Iterator[subprocess.Popen[str]]:
    """`schedule` in a process of its own; it gets SIGTERM in the end unless it has ended."""
    arguments = [sys.executable, __file__, name, str(root), cron, if_busy, str(seconds)]
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=120)


@pytest.fixture
def client(prefect_api: str) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


@pytest.mark.parametrize(
    ("cron", "timezone", "why"),
    [
        ("0 3 * *", "UTC", "Invalid cron"),
        ("61 3 * * *", "UTC", "Invalid cron"),
        ("", "UTC", "Invalid cron"),
        ("0 3 31 2 *", "UTC", "failed to find next date"),
        ("0 3 * * *", "Mars/Base", "Invalid timezone"),
    ],
)
def test_times_that_do_not_exist_are_refused(cron: str, timezone: str, why: str):
    with pytest.raises(ConfigError, match=f"{why}.*'0 3 \\* \\* \\*' for 3:00"):
        read_times(cron, timezone)


def test_a_schedule_that_is_refused_leaves_nothing_behind(
    command: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    status, _, error = command("flow", "schedule", "inbox", "--cron", "daily")
    assert (status, "Invalid cron" in error, list(tmp_path.iterdir())) == (2, True, [])


@pytest.mark.parametrize("zone", ["CET-1CEST,M3.5.0,M10.5.0/3", "UTC0", "<+03>-3", "Mars/Base"])
def test_a_time_zone_without_a_name_is_refused(zone: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TZ", zone)
    with pytest.raises(ConfigError, match=f"^TZ '{re.escape(zone)}' does not name a time zone; pass --timezone"):
        read_times(NEVER)


@pytest.mark.parametrize("zone", ["Europe/Berlin", ":Europe/Berlin", "Asia/Kathmandu", "Etc/GMT+3", "EST5EDT"])
def test_the_time_zone_of_the_environment_is_used(zone: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TZ", zone)
    assert _local_timezone() == zone.removeprefix(":")


def test_schedules_of_two_workspaces_leave_each_other_alone(
    client: SyncPrefectClient,
    tmp_path: Path,
    command: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
):
    with started("one", tmp_path) as one, ExitStack() as stack:
        names = [first_line(one).rpartition("/")[2]]
        (tmp_path / "inbox").mkdir()
        two = stack.enter_context(started("two", tmp_path))
        names.append(first_line(two).rpartition("/")[2])
        two.terminate()  # its runner has not started yet
        workspaces = [client.read_deployment_by_name(f"retrain/{name}").parameters["workspace"] for name in names]
        assert workspaces == [str(tmp_path / "one"), str(tmp_path / "two")]
        monkeypatch.chdir(tmp_path)
        status, _, error = command("flow", "schedule", "inbox", "--workspace", "one", "--cron", NEVER)
        assert (status, "has a schedule" in error) == (2, True)
        assert "no such folder" not in two.communicate(timeout=120)[1]
        paused = [client.read_deployment_by_name(f"retrain/{name}").paused for name in names]
        assert paused == [False, True]
        one.terminate()
        told = f"warning: {tmp_path / 'inbox'}: no such folder or list yet; runs fail until it is there"
        assert told in one.communicate(timeout=120)[1]
    assert one.returncode == two.returncode == 0


@contextmanager
def started(workspace: str, root: Path) -> Iterator[subprocess.Popen[str]]:
    """`tagmask flow schedule` for a workspace below `root`; it gets SIGTERM in the end unless it has ended."""
    command = [str(Path(sys.executable).with_name("tagmask")), "flow", "schedule", "inbox", "--workspace", workspace]
    process = subprocess.Popen(
        [*command, "--cron", NEVER, "--timezone", "UTC"],
        cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        if process.returncode is None:
            process.communicate(timeout=120)


def first_line(process: subprocess.Popen[str]) -> str:
    """The line that a schedule prints once its deployment is there."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_runs_by_the_clock_one_after_another_until_ctrl_c(client: SyncPrefectClient, tmp_path: Path):
    with scheduled("clock", tmp_path, "* * * * * *", "wait", 1.5) as process:
        wait_for(lambda: len(list(tmp_path.glob("*.json"))) >= 2)
        (at_work,) = wait_for(lambda: [run for run in runs(client, "clock") if run.state_name == "Running"])
        os.killpg(process.pid, signal.SIGINT)
        errors = process.communicate(timeout=120)[1]
    assert process.returncode == 0, errors
    first, second, *_ = sorted(json.loads(file.read_text()) for file in tmp_path.glob("*.json"))
    assert first[1] <= second[0]
    states = {run.id: run.state for run in runs(client, "clock")}
    covered = [state for state in states.values() if state and "ingests everything new" in (state.message or "")]
    assert len(covered) >= 2, "those that were due while the first was at work"
    assert states[at_work.id].is_cancelled()
    assert client.read_deployment_by_name("working/clock").paused, "nothing is due while no runner is active"
    with Workspace(tmp_path).lock("test", wait=False):
        pass


def test_a_second_run_is_skipped_until_sigterm(client: SyncPrefectClient, tmp_path: Path):
    with scheduled("skip", tmp_path, NEVER, "skip", 4) as process:
        wait_for(lambda: any(each.name == "skip" for each in client.read_deployments()))
        deployment = client.read_deployment_by_name("working/skip").id
        by_hand = {client.create_flow_run_from_deployment(deployment).id for _ in range(2)}
        done = wait_for(lambda: [run for run in runs(client, "skip") if run.id in by_hand and ended(run)], 2)
        process.terminate()
        errors = process.communicate(timeout=120)[1]
    assert process.returncode == 0, errors
    skipped, completed = sorted(done, key=lambda run: run.state_type)
    assert completed.state_type == StateType.COMPLETED
    assert skipped.state_type == StateType.CANCELLED
    assert "in use by working" in skipped.state.message


def runs(client: SyncPrefectClient, name: str) -> list[FlowRun]:
    deployment = client.read_deployment_by_name(f"working/{name}").id
    return client.read_flow_runs(
        flow_run_filter=FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment]))
    )


def ended(run: FlowRun) -> bool:
    return run.state is not None and run.state.is_final()


def wait_for(condition: Callable[[], object], least: int = 1) -> list[FlowRun]:
    """The value of `condition` once it is true, and has `least` elements if it is a list."""
    limit = time.monotonic() + 60
    while not (result := condition()) or (isinstance(result, list) and len(result) < least):
        assert time.monotonic() < limit, result
        time.sleep(0.2)
    return result if isinstance(result, list) else []


if __name__ == "__main__":
    own, root, cron, if_busy, seconds = sys.argv[1:]
    schedule(
        working,
        read_times(cron),
        parameters={"root": Path(root), "wait": if_busy == "wait", "seconds": float(seconds)},
        if_busy=if_busy,
        name=own,
    )
