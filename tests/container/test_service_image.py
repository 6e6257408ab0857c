"""The service's image, run by the command in docs/container.md."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.container.engine import ROOT, Container, Engine
from tests.service.http.colour_photos import CAT, decoded, encoded, only

DOCUMENTED = re.search(
    r"^docker run (.*?[^\\])$", (ROOT / "docs/container.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
)
PHOTO = encoded()


@pytest.fixture
def service(engine: Engine, service_image: str, colour_bundle: Path, keys: Path) -> Iterator[Container]:
    """The documented container, with the colour bundle and a key of ours, and without a published port."""
    assert DOCUMENTED
    colour_bundle.chmod(0o644)
    arguments = shlex.split(DOCUMENTED[1].replace("\\\n", " "))
    arguments.remove("--rm")
    at = arguments.index("--publish")
    del arguments[at : at + 2]
    ours = {"$PWD/secrets/api_keys": str(keys), "$PWD/demo/run/model.onnx": str(colour_bundle)}
    for documented, file in ours.items():
        assert sum(documented in each for each in arguments) == 1
        arguments = [each.replace(documented, file) for each in arguments]
    assert arguments[-1] == service_image
    with engine.running(*arguments) as container:
        container.wait_for("/readyz", 200)
        yield container


def test_it_segments_for_those_with_a_key(service: Container, keys: Path):
    photo, key = {"content-type": "image/png"}, {"x-api-key": keys.read_text().strip()}
    assert service.request("POST", "/v1/segment?tags=cat", PHOTO, photo).status_code == 401
    answer = service.request("POST", "/v1/segment?tags=cat", PHOTO, photo | key)
    assert answer.status_code == 200, answer.text
    assert np.array_equal(decoded(answer.content), only(CAT))
    refined = service.request("POST", "/v1/segment?refine=crf", PHOTO, photo | key)
    assert refined.status_code == 200, f"DenseCRF is built for the image: {refined.text}"


def test_it_runs_without_rights(service: Container):
    status = dict(line.split(":\t") for line in service("cat", "/proc/1/status").decode().splitlines())
    assert set(status["Uid"].split()) == {"10001"}
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    refused = service.engine.attempt("exec", service.name, "touch", "/opt/tagmask/new")
    assert b"Read-only file system" in refused.stderr
    for program in ("g++", "uv"):
        assert service.engine.attempt("exec", service.name, "which", program).returncode, program


def test_all_code_is_compiled(service: Container):
    check = (
        "import importlib.util as u, os, pathlib, sys; "
        "sources = [p for d in sys.argv[1:] for p in pathlib.Path(d).rglob('*.py')]; "
        "print(len(sources), *(p for p in sources if not os.path.exists(u.cache_from_source(p))))"
    )
    number, *missing = service("python", "-c", check, "/opt/tagmask/src", "/opt/venv/lib").decode().split()
    assert int(number) > 1000
    assert not missing


def test_it_stops_in_order(service: Container):
    service.engine("stop", service.name)
    assert service.engine("inspect", "--format", "{{.State.ExitCode}}", service.name).strip() == b"0"


def test_it_says_which_key_file_it_cannot_read(engine: Engine, service_image: str, keys: Path):
    keys.chmod(0o600)
    mount = f"--volume={keys}:/run/secrets/api_keys:ro"
    done = engine.attempt("run", "--rm", mount, "--env=TAGMASK_API_KEYS_FILE=/run/secrets/api_keys", service_image)
    assert done.returncode
    assert b"/run/secrets/api_keys" in done.stdout + done.stderr
