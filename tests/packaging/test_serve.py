"""`tagmask serve`, in a project whose own `service.py` must not be taken for Tagmask's."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from tagmask.cli.main import app
from tagmask.store import Store
from tests.training.colour_bundle import write_colour_bundle

ROOT = Path(__file__).parents[2]
TAGMASK = Path(sys.executable).with_name("tagmask")
PHOTO = next((ROOT / "docs/pictures").glob("*.jpg"))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "service.py").write_text("raise SystemExit('service.py of the user was imported')\n")
    return tmp_path


@contextmanager
def serving(project: Path, *arguments: str, **settings: str) -> Iterator[httpx.Client]:
    """A client of `tagmask serve`, which runs in `project` while the context is open."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("TAGMASK_", "BENTOML_"))}
    process = subprocess.Popen(
        [TAGMASK, "serve", *arguments, "--port", str(port), "--device", "cpu"],
        cwd=project,
        env=environment | {"PYTHONPATH": str(project), "BENTOML_HOME": str(project / "bentoml")} | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client:
            end = time.monotonic() + 90
            while not ready(client):
                assert process.poll() is None, process.communicate()[0]
                assert time.monotonic() < end, "the service did not become ready"
                time.sleep(0.1)
            yield client
    finally:
        process.send_signal(signal.SIGTERM)
        output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output


def ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").is_success
    except httpx.TransportError:
        return False


def test_serves_the_shipped_model_beside_the_users_own_service(project: Path):
    with serving(project) as client:
        mask = client.post("/v1/segment", content=PHOTO.read_bytes(), headers={"Content-Type": "image/jpeg"})
        assert (mask.status_code, mask.headers["content-type"]) == (200, "image/png")
        assert "dog" in client.get("/v1/models").text


def test_serves_a_bundle_and_a_store_by_relative_paths(project: Path):
    bundle = write_colour_bundle(project / "model.onnx")
    store = Store(project / "store")
    version = store.publish(bundle).version
    store.promote(version)
    (project / "keys").write_text("a-key-of-16-letters\n")
    with serving(project, "model.onnx", TAGMASK_API_KEYS_FILE="keys") as client:
        assert client.get("/readyz").json()["model"] == version
        assert client.get("/v1/models").status_code == 401
    with serving(project, "store", TAGMASK_MODEL="missing.onnx") as client:
        assert client.get("/readyz").json()["model"] == version


def test_bad_settings_are_one_line(project: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(project)
    assert "does not exist" in CliRunner().invoke(app, ["serve", "missing.onnx"]).output
    done = subprocess.run(
        [TAGMASK, "serve"], env=os.environ | {"TAGMASK_MAX_FILES": "0"}, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "TAGMASK_MAX_FILES=0" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_is_no_bundle_is_one_line(project: Path):
    (project / "bad.onnx").write_text("no bundle")
    done = subprocess.run([TAGMASK, "serve", "bad.onnx"], cwd=project, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: bad.onnx: not an ONNX file")
    assert done.stderr.count("\n") == 1


def test_make_serve_takes_the_same_command():
    command = ["make", "--dry-run", "serve", "MODEL=a model.onnx", "PORT=4000"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "exec .venv/bin/tagmask serve 'a model.onnx' --host '127.0.0.1' --port '4000'" in done.stdout
