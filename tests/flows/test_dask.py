"""Stages of single photos on a Dask cluster of several worker processes."""

import shutil

import pytest

from flows.settings import TaskSettings
from flows.train import train
from flows.workspace import Workspace

pytest.importorskip("prefect_dask")

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
    dask = tiny.model_copy(update={"tasks": TaskSettings(runner="dask", workers=2, shard_size=16)})
    state = train(workspace.root, [drawn], dask, return_state=True)
    assert (state.name, state.message.partition(":")[2]) == ("Promoted", " it already is the champion")
    assert written(workspace) == written(trained)
    assert len(before) < len(written(trained)) / 10


def written(workspace: Workspace) -> dict[str, bytes]:
    files = (path for path in workspace.stages.rglob("*") if path.is_file() and path.suffix != ".json")
    return {str(path.relative_to(workspace.stages)): path.read_bytes() for path in files}
