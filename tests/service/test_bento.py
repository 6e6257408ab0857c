"""The Bento that images are made of: what is in it, what it installs, and that it serves."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import httpx
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from service.container import health
from tests.training.colour_bundle import write_colour_bundle

ROOT = Path(__file__).parents[2]
BENTOML = Path(sys.executable).parent / "bentoml"
REQUIREMENTS = ROOT / "service/container/requirements.txt"
PACKAGES = ("service", "tagmask")
NOWHERE = "http://127.0.0.1:9"
"""A proxy that nobody listens on: whoever tries the network fails."""


def pins(path: Path) -> dict[str, str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    split = [line.partition(";")[0].strip().partition("==") for line in lines if line and not line.startswith("#")]
    assert all(version for _, _, version in split), f"{path} pins everything"
    return {canonicalize_name(name): version for name, _, version in split}


def declared() -> list[Requirement]:
    """What pyproject.toml asks for, with the extras of the image."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    return [Requirement(line) for line in project["dependencies"] + extras["serve"] + extras["object-storage"]]


def modules() -> set[Path]:
    """The modules that belong into the Bento, relative to the repository."""
    return {path.relative_to(ROOT) for name in PACKAGES for path in (ROOT / name).rglob("*.py")}


def environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not re.match("TAGMASK_|BENTOML_|PYTHONPATH$", name)}
    offline = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), NOWHERE) | {"NO_PROXY": ""}
    return kept | offline | {"BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True"}


@pytest.fixture(scope="module")
def bento(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("bentoml")
    command = [BENTOML, "build", ROOT, "--version", "test", "--output", "tag"]
    done = subprocess.run(command, env=environment(home), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return home / "bentos" / "tagmask" / "test"


def test_pins_are_those_of_constraints():
    pinned, tested = pins(REQUIREMENTS), pins(ROOT / "constraints.txt")
    assert pinned == {name: tested.get(name) for name in pinned}


def test_requirements_hold_all_that_the_extras_ask_for():
    pinned = pins(REQUIREMENTS)
    assert {canonicalize_name(each.name) for each in declared()} <= pinned.keys()


def test_requirements_are_complete_in_themselves():
    pinned = pins(REQUIREMENTS)
    for name in pinned:
        for line in requires(name):
            need = Requirement(line)
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                assert canonicalize_name(need.name) in pinned, f"{name} needs {need.name}"


def requires(name: str) -> list[str]:
    try:
        return distribution(name).requires or []
    except PackageNotFoundError:
        if name == "onnxruntime":  # `make setup` installs onnxruntime-gpu in its place, which needs the same
            return distribution("onnxruntime-gpu").requires or []
        raise


def test_nothing_of_training_is_installed():
    assert not pins(REQUIREMENTS).keys() & {"torch", "torchvision", "timm", "triton", "scipy", "prefect"}


def test_bento_holds_the_service_and_nothing_else(bento: Path):
    found = {path.relative_to(bento / "src") for path in (bento / "src").rglob("*") if path.is_file()}
    assert {path for path in found if path.suffix == ".py"} == modules()
    others = {"LICENSE", "bentofile.yaml", "constraints.txt", "tagmask/py.typed"}
    container = {"service/container/Dockerfile", "service/container/requirements.txt"}
    data = {
        str(path.relative_to(ROOT))
        for folder in ("service/page", "tagmask/pretrained")
        for path in (ROOT / folder).rglob("*.*")
    }
    assert {str(path) for path in found - modules()} == others | container | data


def test_bento_installs_the_pins(bento: Path):
    assert pins(bento / "env/python/requirements.txt") == pins(REQUIREMENTS)
    assert yaml.safe_load((bento / "bento.yaml").read_text())["service"] == "service.main:Tagmask"


def test_built_bento_serves_and_writes_nothing_into_its_folder(bento: Path, tmp_path: Path):
    bundle = write_colour_bundle(tmp_path / "model.onnx")
    photo = next((ROOT / "docs/pictures").glob("*.jpg")).read_bytes()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    settings = {"HOME": "/nowhere", "BENTOML_PORT": str(port), "TAGMASK_MODEL": str(bundle), "TAGMASK_DEVICE": "cpu"}
    before = listing(bento)
    assert "no answer" in str(health.fault(port))
    process = subprocess.Popen(
        [BENTOML, "serve", bento],
        cwd="/",
        env=environment(tmp_path) | settings | {"PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        end = time.monotonic() + 60
        while health.fault(port):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < end, "the service did not become ready"
            time.sleep(0.1)
        answer = httpx.post(
            f"http://127.0.0.1:{port}/v1/segment", content=photo, headers={"Content-Type": "image/jpeg"}, timeout=30,
            trust_env=False,
        )  # fmt: skip
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png"), answer.text
    finally:
        process.send_signal(signal.SIGTERM)
        output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output
    assert listing(bento) == before


def listing(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
