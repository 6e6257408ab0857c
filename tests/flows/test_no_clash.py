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

from benchmarks.flows import toml
from flows.settings import FlowSettings
from flows.state import training_in_progress
from flows.workspace import Workspace
from tests.flows.interruption import undo_stages

TAGMASK = Path(sys.executable).with_name("tagmask")
NEVER = "0 3 29 2 *"


@pytest.fixture
def project(tmp_path: Path, workspace: Workspace, tiny: FlowSettings) -> Path:
    """The project's folder; in `workspace`, a training waits for photo tasks, a network and its export."""
    folder = tmp_path / "project"
    for name in ("flows/__init__.py", "training/__init__.py", "service.py"):
        module = folder / name
        module.parent.mkdir(parents=True, exist_ok=True)
        module.write_text("raise RuntimeError('a module of the project was imported')\n")
    # In the shards of the training that was undone, as the results of its other stages are kept by shard.
    tasks = tiny.tasks.model_copy(update={"runner": "processes", "workers": 1})
    settings = tiny.model_copy(update={"tasks": tasks})
    (folder / "flows.toml").write_text(toml(settings.model_dump(mode="json", exclude_none=True)))
    undo_stages(workspace, tiny, "superpixels", "round-1-pixelnet")
    return folder


def test_flow_train_with_its_own_server(project: Path, workspace: Workspace, prefect_home: Path, drawn: Path):
    """Without a server that answers, one is started, also in such a folder."""
    home = project / "home"
    home.mkdir()
    (home / "prefect.db").write_bytes((prefect_home / "prefect.db").read_bytes())
    variables = {name: value for name, value in environment().items() if name != "PREFECT_API_URL"}
    own_server = {**variables, "PREFECT_HOME": str(home), "PREFECT_SERVER_API_PORT": "0"}
    command = [TAGMASK, "flow", "train", drawn, "--workspace", workspace.root, "--config", "flows.toml"]
    done = subprocess.run(
        command, cwd=project, env=own_server, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "resuming the training of" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("promoted: ")


def test_a_scheduled_run(project: Path, workspace: Workspace, drawn: Path):
    command = [TAGMASK, "flow", "schedule", drawn, "--cron", NEVER, "--workspace", workspace.root]
    process = subprocess.Popen(
        [*map(str, command), "--config", "flows.toml"], cwd=project, env=environment(), stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        with get_client(sync_client=True) as client:
            state = final_state(client, started_by_hand(client, workspace), process)
    finally:
        process.terminate()
        errors = process.communicate(timeout=120)[1]
    assert state.name == "Promoted", (state.message, errors)
    assert training_in_progress(workspace) is None


def started_by_hand(client: SyncPrefectClient, workspace: Workspace) -> UUID:
    """A run of the deployment for `workspace`."""
    limit = time.monotonic() + 180
    while time.monotonic() < limit:
        for deployment in client.read_deployments():
            if deployment.parameters.get("workspace") == str(workspace.root):
                return client.create_flow_run_from_deployment(deployment.id).id
        time.sleep(0.2)
    raise AssertionError("no deployment in time")


def final_state(client: SyncPrefectClient, run: UUID, process: subprocess.Popen[str]) -> State:
    limit = time.monotonic() + 600
    while not ((state := client.read_flow_run(run).state) and state.is_final()):
        assert process.poll() is None
        assert time.monotonic() < limit, state
        time.sleep(0.5)
    return state


def environment() -> dict[str, str]:
    """This process's variables, with the working directory on the path."""
    return {**os.environ, "PYTHONPATH": "."}
