"""Stages of single photos on a Dask cluster of several worker processes."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import pytest
from prefect import flow, task
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.orchestration.task_runners import result_of, server_known, task_runner
from flows.settings import TaskSettings
from flows.train import train
from flows.workspace import Workspace
from tagmask.errors import RunError

prefect_dask = pytest.importorskip("prefect_dask")

NETWORKS = ("classifier-", "round-1-regionnet-", "round-1-pixelnet-")


def test_a_cluster_gives_the_same_files(trained, workspace, drawn, tiny):
    """The networks exist; all else is repeated, and each file is as one process wrote it."""
    (workspace.root / "last.json").unlink()
    for run in workspace.runs.iterdir():
        (run / "ledger.jsonl").unlink()
    for stage in workspace.stages.iterdir():
        if not stage.name.startswith(NETWORKS):
            shutil.rmtree(stage)
    before = written(workspace)
    dask = tiny.model_copy(update={"tasks": TaskSettings(runner="dask", workers=2, shard_size=12)})
    state = train(workspace.root, [drawn], dask, return_state=True)
    assert (state.name, state.message.partition(":")[2]) == ("Promoted", " it already is the champion")
    assert written(workspace) == written(trained)
    assert len(before) < len(written(trained)) / 10


@task
def add_one(number: int) -> int:
    return number + 1


@flow
def add_one_without_server() -> int:
    with server_known(), temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):  # nobody listens there
        return int(result_of(add_one.submit(1)))


def test_a_new_worker_starts_its_tasks_while_the_server_is_gone(prefect_api: str):
    runner = task_runner(TaskSettings(runner="dask", workers=1))
    assert add_one_without_server.with_options(task_runner=runner)() == 2


def test_tasks_whose_scheduler_dies_are_not_waited_for(tmp_path: Path):
    file = tmp_path / "scheduler.json"
    options = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", file)
    with subprocess.Popen([sys.executable, "-m", "distributed.cli.dask_scheduler", *options]) as scheduler:
        try:
            while not file.exists():
                assert scheduler.poll() is None
                time.sleep(0.1)
            address = json.loads(file.read_text())["address"]
            with prefect_dask.client.PrefectDaskClient(address, timeout=1, set_as_default=False) as client:
                waiting = prefect_dask.task_runners.PrefectDaskFuture(uuid4(), client.submit(print))  # without workers
                scheduler.kill()
                with pytest.raises(
                    RunError, match=r"connection to Dask's scheduler was lost; .* start again to resume"
                ):
                    result_of(waiting)
        finally:
            scheduler.kill()


def written(workspace: Workspace) -> dict[str, bytes]:
    files = (path for path in workspace.stages.rglob("*") if path.is_file() and path.suffix != ".json")
    return {str(path.relative_to(workspace.stages)): path.read_bytes() for path in files}
