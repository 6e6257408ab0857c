"""compose.yaml in a project of its own, by the commands of docs/container.md."""

from base64 import b64encode
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from secrets import token_hex

import pytest

from tests.container.engine import Container, Engine
from tests.service.http.colour_photos import encoded

KEY = token_hex()
AUTH = f"tagmask:{token_hex()}"


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    folder = tmp_path / "secrets"
    folder.mkdir(mode=0o700)
    for name in ("api_keys", "admin_keys"):
        (folder / name).write_text(f"{KEY if name == 'api_keys' else token_hex()}\n")
        (folder / name).chmod(0o644)
    (folder / "prefect.env").write_text(f"PREFECT_SERVER_API_AUTH_STRING={AUTH}\nPREFECT_API_AUTH_STRING={AUTH}\n")
    return folder


@pytest.fixture
def compose(
    engine: Engine, service_image: str, training_image: str, secrets: Path, flow_settings: Path
) -> Iterator["partial[bytes]"]:
    """`docker compose` with a project, secrets and settings of its own, and any free ports."""
    if engine.attempt("compose", "version").returncode:
        pytest.skip(f"{engine.program} has no compose")
    variables = {
        "COMPOSE_PROJECT_NAME": f"tagmask-{token_hex(4)}",
        "TAGMASK_SECRETS": str(secrets),
        "TAGMASK_SETTINGS": str(flow_settings),
        "TAGMASK_PUBLISH": "127.0.0.1:0",
        "TAGMASK_PREFECT_PORT": "0",
    }
    run = partial(engine, "compose", **variables)
    try:
        yield run
    finally:
        run("--profile=*", "down", "--volumes", "--timeout=5")


def container(compose: "partial[bytes]", service: str, port: int) -> Container:
    return Container(compose.func, compose("ps", "--quiet", service).decode().strip(), port)


def test_service_waits_for_a_model_and_follows_the_store(compose: "partial[bytes]", colour_bundle: Path, photos: Path):
    compose("up", "--detach")
    service = container(compose, "service", 3000)
    waiting = service.wait_for("/readyz", 503)
    assert waiting.json()["error"]["code"] == "no_model"
    headers = {"x-api-key": KEY, "content-type": "image/png"}
    assert service.request("POST", "/v1/samples?tags=cat", encoded(), headers).status_code == 201

    colour_bundle.chmod(0o644)
    compose("run", "--rm", f"--volume={colour_bundle}:/new/model.onnx:ro", "training", "models", "add",
            "/new/model.onnx", "--promote")  # fmt: skip
    compose("up", "--detach", "--wait")
    assert service.request("GET", "/readyz").status_code == 200

    trained = compose("run", "--rm", f"--volume={photos}:/data:ro", "retraining", "flow", "train", "/data",
                      "--config=/settings.toml")  # fmt: skip
    result, version, reasons = trained.decode().splitlines()[-1].split(maxsplit=2)
    assert result == "kept:"
    assert reasons.endswith("lost classes: cat, dog (not allowed)"), "those of the champion"
    compose("--profile=retraining", "up", "--detach", "--wait")
    compose("run", "--rm", "training", "models", "promote", version)
    service.wait_for("/readyz", 200, model=version)

    prefect = container(compose, "prefect", 4200)
    assert prefect.request("POST", "/api/flows/filter").status_code == 401
    password = {"authorization": f"Basic {b64encode(AUTH.encode()).decode()}"}
    flows = prefect.request("POST", "/api/flows/filter", b"{}", password | {"content-type": "application/json"})
    assert "train" in {flow["name"] for flow in flows.json()}
