"""In a project with modules named like Tagmask's packages, flows and scheduled runs work."""

import os
import subprocess
import sys
import time
from pathlib import Path
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import ObjectNotFound

from benchmarks.flows import toml
from flows.settings import FlowSettings, TaskSettings
from flows.workspace import Workspace

TAGMASK = Path(sys.executable).with_name("tagmask")
NEVER = "0 3 29 2 *"


@pytest.fixture
def project(tmp_path: Path, tiny: FlowSettings) -> Path:
    folder = tmp_path / "project"
    for name in ("flows/__init__.py", "training/__init__.py", "service.py"):
        module = folder / name
        module.parent.mkdir(parents=True, exist_ok=True)
        module.write_text("raise RuntimeError('a module of the project was imported')\n")
    settings = tiny.model_copy(update={"tasks": TaskSettings(runner="processes", workers=2, shard_size=8)})
    (folder / "flows.toml").write_text(toml(settings.model_dump(mode="json", exclude_none=True)))
    return folder


@pytest.mark.parametrize("path", [None, "."])
def test_flow_train(prefect_api: str, project: Path, drawn: Path, path: str | None):
    command = [TAGMASK, "flow", "train", drawn, "--workspace", "workspace", "--config", "flows.toml"]
    done = subprocess.run(
        command, cwd=project, env=environment(path), capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("promoted: ")


def test_its_own_server(project: Path, prefect_home: Path, tmp_path: Path, drawn: Path):
    """Without a server that answers, one is started, also in such a folder."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "prefect.db").write_bytes((prefect_home / "prefect.db").read_bytes())
    variables = {name: value for name, value in environment(".").items() if name != "PREFECT_API_URL"}
    command = [TAGMASK, "flow", "retrain", project / "inbox", "--workspace", "workspace"]
    (project / "inbox").mkdir()
    done = subprocess.run(
        command, cwd=project, env={**variables, "PREFECT_HOME": str(tmp_path / "home"), "PREFECT_SERVER_API_PORT": "0"},
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("unchanged: ")


def test_a_scheduled_run(project: Path, workspace: Workspace, drawn: Path):
    command = [TAGMASK, "flow", "schedule", drawn, "--cron", NEVER, "--workspace", workspace.root]
    process = subprocess.Popen(
        [*map(str, command), "--config", "flows.toml"], cwd=project, env=environment("."), stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        with get_client(sync_client=True) as client:
            state = final_state(client, started_by_hand(client, workspace), process)
    finally:
        process.terminate()
        errors = process.communicate(timeout=120)[1]
    assert state.name in {"Promoted", "Kept"}, (state.message, errors)


def started_by_hand(client: SyncPrefectClient, workspace: Workspace) -> UUID:
    """A run of the deployment that was made for `workspace`."""
    limit = time.monotonic() + 180
    while time.monotonic() < limit:
        try:
            deployment = client.read_deployment_by_name("retrain/schedule")
        except ObjectNotFound:
            deployment = None
        if deployment and deployment.parameters["workspace"] == str(workspace.root):
            parameters = {**deployment.parameters, "force": True}
            return client.create_flow_run_from_deployment(deployment.id, parameters=parameters).id
        time.sleep(0.2)
    raise AssertionError("no deployment in time")


def final_state(client: SyncPrefectClient, run: UUID, process: subprocess.Popen[str]) -> State:
    limit = time.monotonic() + 600
    while not ((state := client.read_flow_run(run).state) and state.is_final()):
        assert process.poll() is None
        assert time.monotonic() < limit, state
        time.sleep(0.5)
    return state


def environment(path: str | None) -> dict[str, str]:
    """This process's variables, with PYTHONPATH set to `path`."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {**variables, "PYTHONPATH": path} if path else variables
