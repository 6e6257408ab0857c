import os
import shutil
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import prefect
import pytest
from prefect.settings import PREFECT_HOME, PREFECT_SERVER_API_PORT, temporary_settings

from examples.demo.drawing import make_demo_photos
from flows.learning import flow as learning_flow
from flows.learning.training_process import TrainingProcess
from flows.orchestration.server import prefect_server
from flows.settings import DataSettings, FlowSettings, GateSettings, TaskSettings
from flows.train import train
from flows.workspace import Workspace
from tests.tiny import TINY
from training.config import load_config

ENVIRONMENT = {
    "DO_NOT_TRACK": "1",
    "OMP_NUM_THREADS": "1",  # two threads of a network this small mostly wait for each other, and take both cores
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",  # a test that forgets the server fails, instead of starting another
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",  # two seconds; what is saved is registered by itself
    "PREFECT_SERVER_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false",
    "PREFECT_SERVER_SERVICES_SCHEDULER_RECENT_DEPLOYMENTS_LOOP_SECONDS": "0.5",
    "PREFECT_RUNNER_POLL_FREQUENCY": "1",
}


@pytest.fixture(scope="session")
def migrated(pytestconfig: pytest.Config) -> Path:
    """Where an empty database of this version of Prefect is kept from one test session to the next.

    Its migrations, one after another since the first version, are half of the time that a server takes to start.
    """
    cache = pytestconfig.cache
    assert cache is not None
    return cache.mkdir(f"prefect-{prefect.__version__}") / "prefect.db"


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory: pytest.TempPathFactory, migrated: Path) -> Path:
    """A folder for Prefect, with the database if an earlier test session left one."""
    home = tmp_path_factory.mktemp("prefect")
    if migrated.exists():
        (home / "prefect.db").write_bytes(migrated.read_bytes())
    return home


@pytest.fixture(scope="session")
def prefect_api(prefect_home: Path, migrated: Path) -> Iterator[str]:
    """The API's address of a Prefect server that all tests of the session share, set for them and their processes."""
    port = free_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PREFECT_API_URL", raising=False)
        own = {"PREFECT_HOME": str(prefect_home), "PREFECT_SERVER_API_PORT": str(port)}
        for name, value in {**ENVIRONMENT, **own}.items():
            patch.setenv(name, value)
        with temporary_settings({PREFECT_HOME: prefect_home, PREFECT_SERVER_API_PORT: port}), prefect_server() as url:
            if not migrated.exists():
                keep(prefect_home / "prefect.db", migrated)
            yield url


def keep(database: Path, copy: Path) -> None:
    part = copy.with_suffix(f".{os.getpid()}")
    with sqlite3.connect(database) as source, sqlite3.connect(part) as target:
        source.backup(target)
    target.execute("DELETE FROM configuration")  # each database is another server to Prefect
    target.commit()
    target.close()
    part.replace(copy)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def tiny() -> FlowSettings:
    """Settings whose training takes seconds; its networks learn nothing, so the gate is wide open."""
    return FlowSettings(
        train=load_config(overrides=TINY | {"rounds": 1}),
        device="cpu",
        tensorboard=True,
        # Two shards of the drawn photos: Prefect takes longer for a shard than for its photos.
        tasks=TaskSettings(runner="inline", shard_size=12),
        data=DataSettings(min_photos=4),
        gate=GateSettings(
            estimate_loss=100,
            consistency_gain=-1,
            coverage_change=100,
            min_coverage=0,
            agreement=0,
            latency_factor=100,
            vanished_classes=True,
        ),
    )


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tagged photos, drawn: images/ and tags.csv."""
    root = tmp_path_factory.mktemp("drawn") / "photos"
    make_demo_photos(root, photos=24, size=64)
    return root


@pytest.fixture(scope="session")
def one_process() -> Iterator[None]:
    """All trainings of this process use one training process, as each takes long to load torch."""
    with TrainingProcess("cpu") as process, pytest.MonkeyPatch.context() as patch:
        patch.setattr(learning_flow, "TrainingProcess", _Shared(process))
        yield


class _Shared:
    def __init__(self, process: TrainingProcess) -> None:
        self._process = process

    def __call__(self, device: str) -> AbstractContextManager[TrainingProcess]:
        return nullcontext(self._process)

    def __reduce__(self) -> tuple[type[TrainingProcess], tuple[str]]:
        return TrainingProcess, ("cpu",)  # it is sent to workers, with all that the flow's module names


@pytest.fixture(scope="session")
def trained(
    prefect_api: str, one_process: None, drawn: Path, tiny: FlowSettings, tmp_path_factory: pytest.TempPathFactory
) -> Workspace:
    """A workspace with a champion, trained on all drawn photos; not to be changed."""
    workspace = Workspace(tmp_path_factory.mktemp("trained") / "workspace")
    state = train(workspace.root, [drawn], tiny, return_state=True)
    assert (state.name, state.type.value) == ("Promoted", "COMPLETED"), state.message
    return workspace


@pytest.fixture
def workspace(trained: Workspace, tmp_path: Path) -> Workspace:
    """A copy of it."""
    return Workspace(shutil.copytree(trained.root, tmp_path / "workspace", symlinks=True))
