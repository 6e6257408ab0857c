"""The same training on a Dask cluster of several worker processes."""

import pytest

from flows.settings import WorkSettings
from flows.train import train
from flows.workspace import Workspace
from service.store import Store

pytest.importorskip("prefect_dask")


def test_a_cluster_gives_the_same_bundle(trained, drawn, tiny, tmp_path):
    """All stages of single photos run there; the other ones find their results."""
    dask = tiny.model_copy(update={"work": WorkSettings(where="dask", workers=2, shard=4)})
    workspace = Workspace(tmp_path / "workspace")
    state = train(workspace.root, [drawn], dask, return_state=True)
    assert state.name == "Promoted", state.message
    there, here = Store(workspace.store).champion(), Store(trained.store).champion()
    assert there is not None
    assert here is not None
    assert there.version == here.version
