import subprocess
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from examples.demo.drawing import make_demo_photos
from tests.container.engine import ROOT, Engine, find_engine
from tests.tiny import TINY
from training.config import load_config


@pytest.fixture(scope="session")
def engine() -> Engine:
    engine = find_engine()
    if engine is None:
        pytest.skip("no container engine: neither docker nor podman answers")
    return engine


@pytest.fixture(scope="session")
def service_image(engine: Engine) -> str:
    return make("image", "tagmask:cpu", engine)


@pytest.fixture(scope="session")
def training_image(engine: Engine) -> str:
    return make("image-training", "tagmask:training", engine)


def make(target: str, image: str, engine: Engine) -> str:
    """Have `make` build what is documented. Layers that have not changed are taken from the engine's cache."""
    done = subprocess.run(["make", target, f"ENGINE={engine.program}"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return image


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A file with one key, which user 10001 may read."""
    file = tmp_path / "api_keys"
    file.write_text("a-key-of-the-container-tests\n")
    file.chmod(0o644)
    return file


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tagged photos, which user 10001 may read."""
    folder = tmp_path_factory.mktemp("photos")
    make_demo_photos(folder, photos=40, size=64)
    for each in (folder, *folder.rglob("*")):
        each.chmod(0o755 if each.is_dir() else 0o644)
    return folder


def write_settings(file: Path, values: dict[str, Any]) -> Path:
    file.write_text(tomli_w.dumps(values))
    file.chmod(0o644)
    return file


TRAIN = load_config(overrides=TINY | {"rounds": 1}).model_dump(mode="json", exclude_none=True)


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """A training of seconds."""
    return write_settings(tmp_path / "train.toml", TRAIN)


@pytest.fixture
def flow_settings(tmp_path: Path) -> Path:
    """The same for flows, which promote whatever comes of it."""
    gate = {"min_coverage": 0.0, "estimate_loss": 100.0, "consistency_gain": -1.0, "coverage_change": 100.0,
            "agreement": 0.0, "latency_factor": 100.0, "size_factor": 100.0, "vanished_classes": True}  # fmt: skip
    return write_settings(tmp_path / "flows.toml", {"train": TRAIN, "data": {"min_photos": 5}, "gate": gate})
