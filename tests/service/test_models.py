import asyncio
import json
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from threading import Event, Semaphore, Thread
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
from onnx import helper
from PIL import Image

from service.models import Loader, Models, Source
from service.settings import Settings
from tagmask.bundle import write_bundle
from tagmask.errors import BundleError, NotFound, Refused, StartError
from tagmask.files import write_text
from tagmask.segmenter import PRETRAINED, Segmenter
from tagmask.store import Store
from tests.service.http.problems import assert_problem
from tests.service.serving import serving
from tests.tagmask import bad_bundles
from tests.tagmask.bad_bundles import write_bad_bundle
from tests.tagmask.bundles import FIRST, SECOND, make_store
from tests.training.colour_bundle import colour_model, describe, write_colour_bundle

ANIMALS = ("cat", "cow", "dog", "horse", "person", "sheep")
ADMIN = {"X-API-Key": "an admin key of a fair length"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_store(tmp_path)


@pytest.fixture
def client(store: Store) -> Iterator[httpx.Client]:
    with serving(store=store.root, watch_seconds=0.05, admin_keys=ADMIN["X-API-Key"]) as client:
        client.headers.update(ADMIN)
        yield client


def photo() -> bytes:
    image = BytesIO()
    Image.new("RGB", (40, 30), (200, 40, 40)).save(image, "PNG")
    return image.getvalue()


def damage(store: Store, version: str) -> None:
    path = store.path(version)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def eventually(met: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end, "never came true"
        time.sleep(0.02)


def load(path: Path, **settings: Any) -> Segmenter:
    return asyncio.run(Loader(Settings(**settings)).load(Source(path)))


def refused(client: httpx.Client) -> dict[str, str] | None:
    return client.get("/readyz").json()["refused"]


def serving_version(client: httpx.Client) -> str:
    return client.get("/readyz").json()["model"]


def test_a_promoted_model_is_served_without_a_restart(client: httpx.Client, store: Store):
    assert serving_version(client) == FIRST
    store.promote(SECOND)
    eventually(lambda: serving_version(client) == SECOND)
    answer = client.post("/v1/segment", files={"image": photo()})
    assert answer.headers["X-Model-Version"] == SECOND


def test_models_are_listed_with_what_serves(client: httpx.Client, store: Store):
    listed = client.get("/v1/models").json()["models"]
    assert [(model["version"], model["serving"]) for model in listed] == [(FIRST, True), (SECOND, False)]
    one = client.get(f"/v1/models/{SECOND}").json()
    assert one["classes"] == ["background", "cat", "dog"]
    assert one["sha256"] == store.record(SECOND).sha256
    assert client.get("/v1/models/elsewhere").status_code == 404


def test_activate_and_rollback_answer_when_the_model_serves(client: httpx.Client, store: Store):
    assert client.post(f"/v1/models/{SECOND}/activate").json()["serving"] is True
    assert serving_version(client) == SECOND
    champion = store.champion()
    assert champion is not None
    assert champion.version == SECOND
    assert client.post("/v1/models/rollback").json()["version"] == FIRST
    assert serving_version(client) == FIRST
    again = client.post("/v1/models/rollback")
    assert (again.status_code, again.json()["error"]["code"]) == (409, "model_refused")
    assert serving_version(client) == FIRST


def test_memory_that_loading_took_is_returned(store: Store, monkeypatch: pytest.MonkeyPatch):
    returned: list[str] = []
    monkeypatch.setattr("service.models.return_freed_memory", lambda: returned.append("all"))
    assert Models(Settings(store=store.root)).served is not None
    assert returned == ["all"]


def test_memory_of_photos_is_returned_again_and_again(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("service.models._IDLE_SECONDS", 0.001)
    returned = Semaphore(0)
    models = Models(Settings(store=store.root))
    monkeypatch.setattr(models.served, "return_idle_memory", returned.release)

    async def twice() -> None:
        task = asyncio.create_task(models.return_idle_memory())
        for _ in range(2):
            assert await asyncio.to_thread(returned.acquire, timeout=60)
        task.cancel()

    asyncio.run(twice())


@pytest.mark.parametrize("version", ["nowhere", "..", "..%2f..%2fetc", "A" * 200, "%00"])
def test_an_unknown_version_is_not_found(client: httpx.Client, version: str):
    assert client.post(f"/v1/models/{version}/activate").status_code == 404
    assert serving_version(client) == FIRST


def test_a_damaged_champion_is_refused_visibly_until_it_is_put_right(client: httpx.Client, store: Store):
    good = store.path(SECOND).read_bytes()
    store.promote(SECOND)
    eventually(lambda: serving_version(client) == SECOND)
    store.promote(FIRST)
    eventually(lambda: serving_version(client) == FIRST)

    damage(store, SECOND)
    pointer = store.root / "champion.json"
    champion = json.loads(pointer.read_text())
    write_text(pointer, json.dumps(champion | {"version": SECOND, "before": [FIRST]}))
    eventually(lambda: refused(client) is not None)
    why = refused(client)
    assert why is not None
    assert why["version"] == SECOND
    assert "SHA-256" in why["reason"]
    assert serving_version(client) == FIRST
    assert client.post("/v1/segment", files={"image": photo()}).headers["X-Model-Version"] == FIRST

    store.path(SECOND).write_bytes(good)
    eventually(lambda: serving_version(client) == SECOND)
    assert refused(client) is None


def test_a_refused_champion_is_shown_and_tried_once(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("tagmask.trial.WARM_UP_SECONDS", 4.0)
    tried: list[Source] = []
    check = Loader.check

    async def count(self: Loader, source: Source) -> None:
        tried.append(source)
        await check(self, source)

    monkeypatch.setattr(Loader, "check", count)
    bad = store.publish(write_bad_bundle(tmp_path / "bad.onnx", bad_bundles.endless())).version
    with serving(store=store.root, watch_seconds=0.02) as client:
        store.promote(bad)
        eventually(lambda: refused(client) is not None)
        why = refused(client)
        assert why is not None
        assert (why["version"], serving_version(client)) == (bad, FIRST)
        assert "more than 60 s to load and warm up" in why["reason"]
        faults = {model["version"]: model["fault"] for model in client.get("/v1/models").json()["models"]}
        assert faults == {FIRST: None, SECOND: None, bad: why["reason"]}
        assert "tagmask_refused_versions 1.0" in client.get("/metrics").text
        time.sleep(0.5)  # many ticks
        assert len(tried) == 1
        store.promote(SECOND)
        eventually(lambda: serving_version(client) == SECOND)
        assert "tagmask_refused_versions 0.0" in client.get("/metrics").text
    lines = [line for line in capfd.readouterr().out.splitlines() if '"model refused"' in line]
    assert len(lines) == 1
    assert why["reason"] in lines[0]


def test_activating_a_damaged_model_changes_nothing(client: httpx.Client, store: Store):
    damage(store, SECOND)
    answer = client.post(f"/v1/models/{SECOND}/activate")
    assert answer.status_code == 409
    assert "SHA-256" in answer.json()["error"]["message"]
    champion = store.champion()
    assert champion is not None
    assert champion.version == FIRST
    assert serving_version(client) == FIRST
    damaged = client.get(f"/v1/models/{SECOND}").json()
    assert damaged["serving"] is False


def test_an_unreadable_pointer_does_not_stop_the_service(client: httpx.Client, store: Store):
    (store.root / "champion.json").write_text("{")
    eventually(lambda: refused(client) is not None)
    assert serving_version(client) == FIRST
    (store.root / "champion.json").unlink()
    store.promote(SECOND)
    eventually(lambda: serving_version(client) == SECOND)
    assert refused(client) is None


def test_no_answer_fails_or_mixes_models_while_they_are_swapped(client: httpx.Client, store: Store):
    stop = Event()
    wrong: list[str] = []
    answered: dict[str, int] = {FIRST: 0, SECOND: 0}

    def ask() -> None:
        with httpx.Client(base_url=client.base_url, headers=ADMIN, timeout=30) as mine:
            while not stop.is_set():
                answer = mine.post("/v1/segment", files={"image": photo()})
                if answer.status_code != 200:
                    wrong.append(answer.text)
                    continue
                inside = Image.open(BytesIO(answer.content)).info["model"]
                if inside != answer.headers["X-Model-Version"]:
                    wrong.append(f"{inside} in an answer of {answer.headers['X-Model-Version']}")
                answered[inside] += 1

    threads = [Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for version in (SECOND, FIRST):
        store.promote(version)
        eventually(lambda version=version: serving_version(client) == version)
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert min(answered.values()) > 0


def test_a_fixed_file_is_served_alone(tmp_path: Path):
    bundle = write_colour_bundle(tmp_path / "model.onnx")
    with serving(model=bundle) as client:
        assert len(client.get("/v1/models").json()["models"]) == 1
        answer = client.post("/v1/models/rollback")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "fixed_model")


def test_a_store_that_does_not_exist_is_refused(tmp_path: Path):
    with pytest.raises(StartError, match="nowhere: no such folder; create it"):
        Loader(Settings(store=tmp_path / "nowhere")).first()
    assert not (tmp_path / "nowhere").exists()


def test_on_an_empty_store_the_service_waits_for_a_champion(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    root = tmp_path / "store"
    root.mkdir()
    brush = '<BrushLabels name="brush" toName="image"><Label value="cat"/></BrushLabels>'
    config = f'<View><Image name="image" value="$image"/>{brush}</View>'
    with serving(store=root, inbox=tmp_path / "inbox", watch_seconds=0.05, admin_keys=ADMIN["X-API-Key"]) as client:
        client.headers.update(ADMIN)
        assert client.get("/livez").status_code == 200
        assert client.get("/v1/models").json() == {"models": []}
        for answer in (
            client.get("/readyz"),
            client.post("/v1/segment", files={"image": photo()}),
            client.post("/v1/segment/batch", files={"image": photo()}),
            client.post("/setup", json={"project": "1", "schema": config}),
            client.post("/predict", json={"tasks": [], "label_config": config}),
        ):
            error = assert_problem(answer, 503, "no_model")
            assert "no champion; promote one with `tagmask models add path/to/model.onnx --promote`" in error["message"]
            assert answer.headers["Retry-After"] == "5"
            assert "X-Model-Version" not in answer.headers
        for path in ("/v2/health/ready", "/v2/models/tagmask/ready"):
            assert (client.get(path).status_code, "no champion" in client.get(path).json()["error"]) == (503, True)
        assert client.post("/v1/samples", files={"image": photo()}, data={"tags": "cat"}).status_code == 201
        assert client.post(f"/v1/models/{FIRST}/activate").status_code == 404
        assert client.post("/v1/models/rollback").status_code == 409

        make_store(tmp_path)
        eventually(lambda: client.get("/readyz").status_code == 200)
        assert serving_version(client) == FIRST
        assert client.post("/v1/segment", files={"image": photo()}).headers["X-Model-Version"] == FIRST
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    (waiting,) = [line for line in lines if line["event"] == "not ready"]
    assert (waiting["store"], "promote one" in waiting["reason"]) == (str(root), True)


def test_while_no_model_is_served_a_refused_champion_is_the_reason(tmp_path: Path):
    root = tmp_path / "store"
    root.mkdir()
    with serving(store=root, watch_seconds=0.05) as client:
        bad = Store(root).publish(write_bad_bundle(tmp_path / "bad.onnx", _without_softmax())).version
        Store(root).promote(bad)
        eventually(lambda: f"champion {bad} is refused" in client.get("/readyz").json()["detail"])
        assert "tagmask_refused_versions 1.0" in client.get("/metrics").text


def test_before_any_training_the_pretrained_model_serves_until_there_is_a_champion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    with serving(watch_seconds=0.05) as client:
        pretrained = serving_version(client)
        (model,) = client.get("/v1/models").json()["models"]
        assert model["version"] == pretrained
        assert model["serving"]
        assert client.get(f"/v1/models/{pretrained}").json()["classes"][1:] == list(ANIMALS)
        assert client.post(f"/v1/models/{pretrained}/activate").status_code == 404
        make_store(tmp_path)
        eventually(lambda: serving_version(client) == FIRST)
        assert pretrained not in {each["version"] for each in client.get("/v1/models").json()["models"]}


def test_the_pretrained_model_is_the_one_on_its_card_and_paints_a_cat():
    model = load(PRETRAINED)
    card = PRETRAINED.with_name("README.md").read_text(encoding="utf-8")
    size = PRETRAINED.stat().st_size
    assert size <= 10_000_000
    for fact in (f"`{model.version}`", f"{size / 1e6:.1f} MB", f"{model.metadata.photos:,} photos"):
        assert fact in card
    assert model.metadata.supervision == "tags"
    with Segmenter.load() as segmenter:
        result = segmenter.segment(PRETRAINED.parents[2] / "service/page/samples/cat.jpg")
    assert result.present == ("cat",)
    assert 0.5 < result.mask_of("cat").mean() < 0.9


def test_a_network_that_breaks_its_promise_is_refused(tmp_path: Path):
    path = tmp_path / "model.onnx"
    write_bundle(path, _without_softmax(), describe())
    with pytest.raises(BundleError, match="not probabilities with sum 1"):
        load(path)


def test_a_network_that_cannot_run_is_refused(tmp_path: Path):
    path = tmp_path / "model.onnx"
    model = colour_model()
    model.graph.node.insert(0, helper.make_node("Reshape", ["image", "shape"], ["reshaped"]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, 3, 7, 7], dtype=np.int64), "shape"))
    model.graph.node[1].input[0] = "reshaped"
    write_bundle(path, model, describe())
    with pytest.raises(BundleError, match="warm-up"):
        load(path)


def test_cuda_that_is_not_there_is_refused(tmp_path: Path):
    if Path("/proc/driver/nvidia").exists():
        pytest.skip("this machine has an NVIDIA driver")
    with pytest.raises(StartError, match=r"TAGMASK_DEVICE=cuda: .* choose 'auto' or 'cpu'"):
        load(write_colour_bundle(tmp_path / "model.onnx"), device="cuda")


def test_refusals_are_typed(store: Store):
    async def switch() -> None:
        models = Models(Settings(store=store.root))
        with pytest.raises(NotFound):
            await models.activate("nowhere")
        with pytest.raises(Refused):
            await models.rollback()
        assert (await models.activate(SECOND)).version == SECOND

    asyncio.run(switch())


def _without_softmax() -> onnx.ModelProto:
    model = colour_model()
    del model.graph.node[1]
    model.graph.node[0].output[0] = "probabilities"
    return model
