from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tagmask.store import Store
from tests.service.http.colour_photos import encoded
from tests.service.http.problems import assert_problem
from tests.service.serving import serving
from tests.tagmask.bundles import FIRST, SECOND, make_store
from tests.training.colour_bundle import write_colour_bundle


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return make_store(tmp_path).root


@pytest.fixture
def client(store: Path) -> Iterator[httpx.Client]:
    with serving(store=store, watch_seconds=3600) as client:
        yield client


def test_a_model_tells_its_tile(tmp_path: Path) -> None:
    with serving(model=write_colour_bundle(tmp_path / "model.onnx", tile=640)) as client:
        (model,) = client.get("/v1/models").json()["models"]
    assert (model["working_size"], model["tile"]) == (80, 640)


def test_a_model_tells_what_was_measured_on_held_out_corrections(tmp_path: Path) -> None:
    measured = {"photos": 8, "with_tags": {"value": 61.0, "low": 52.0, "high": 68.5}}
    measured["without_tags"] = {"value": 58.0, "low": 49.0, "high": 66.0}
    for expected in (measured, None):
        with serving(model=write_colour_bundle(tmp_path / "model.onnx", measured=expected)) as client:
            (model,) = client.get("/v1/models").json()["models"]
        assert model["measured"] == expected


def test_models_are_listed_and_shown(client: httpx.Client) -> None:
    answer = client.get("/v1/models")
    assert answer.headers["X-Model-Version"] == FIRST
    models = answer.json()["models"]
    assert [(model["version"], model["serving"]) for model in models] == [(FIRST, True), (SECOND, False)]
    for model in models:
        assert model == client.get(f"/v1/models/{model['version']}").json()
        assert model["classes"] == ["background", "cat", "dog"]
        assert len(model["sha256"]) == len(model["data_digest"]) == 64


@pytest.mark.parametrize("version", ["nope", "rollback", FIRST + "0", "..", "%2e%2e", "a" * 3000, "%00", "%ff", "ä"])
def test_an_unknown_model_is_404(client: httpx.Client, version: str) -> None:
    if version != "..":
        assert_problem(client.get(f"/v1/models/{version}"), 404, "unknown_model", "version")
    assert client.post(f"/v1/models/{version}/activate").status_code == 404
    assert client.get("/readyz").json()["model"] == FIRST


def test_activate_and_roll_back(client: httpx.Client) -> None:
    assert_problem(client.post("/v1/models/rollback"), 409, "model_refused")
    for path, now in ((f"/v1/models/{SECOND}/activate", SECOND), ("/v1/models/rollback", FIRST)):
        answer = client.post(path)
        assert answer.status_code == 200
        assert (answer.json()["version"], answer.json()["serving"], answer.headers["X-Model-Version"]) == (
            now,
            True,
            now,
        )
        assert client.get("/readyz").json()["model"] == now
        assert client.post("/v1/segment", files={"image": encoded()}).headers["X-Model-Version"] == now


def test_a_damaged_model_is_refused_and_the_old_one_stays(client: httpx.Client, store: Path) -> None:
    bundle = store / "bundles" / SECOND / "model.onnx"
    bundle.write_bytes(bundle.read_bytes()[:-1])
    error = assert_problem(client.post(f"/v1/models/{SECOND}/activate"), 409, "model_refused")
    assert FIRST in error["message"]
    assert client.post("/v1/segment", files={"image": encoded()}).headers["X-Model-Version"] == FIRST


def test_one_file_cannot_be_switched(colour_bundle: Path) -> None:
    with serving(model=colour_bundle) as client:
        (model,) = client.get("/v1/models").json()["models"]
        assert model["serving"]
        for path in (f"/v1/models/{model['version']}/activate", "/v1/models/rollback"):
            assert_problem(client.post(path), 409, "fixed_model")


def test_a_model_removed_between_list_and_read_is_not_there(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(store=store, watch_seconds=3600) as client:
        assert len(client.get("/v1/models").json()["models"]) == 2
        monkeypatch.setattr(Store, "versions", lambda self: (FIRST, SECOND))
        assert Store(store).retain(0) == (SECOND,)
        assert [model["version"] for model in client.get("/v1/models").json()["models"]] == [FIRST]
        error = assert_problem(client.get(f"/v1/models/{SECOND}"), 404, "unknown_model", "version")
        assert str(store) not in error["message"]
        assert_problem(client.post(f"/v1/models/{SECOND}/activate"), 404, "unknown_model", "version")


def test_the_model_that_serves_may_be_removed(store: Path) -> None:
    with serving(store=store, watch_seconds=3600) as client:
        assert client.post("/v1/segment", files={"image": encoded()}).headers["X-Model-Version"] == FIRST
        (store / "champion.json").unlink()
        assert Store(store).retain(0) == (FIRST, SECOND)
        assert client.post("/v1/segment", files={"image": encoded()}).headers["X-Model-Version"] == FIRST
        (model,) = client.get("/v1/models").json()["models"]
        assert (model["version"], model["serving"]) == (FIRST, True)
