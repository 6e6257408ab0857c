import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

import tagmask.network
from service.http.concurrency import ConcurrencyLimit
from tagmask.bundle import read_bundle, read_metadata
from tagmask.store import Store
from tests.service.http.colour_photos import encoded
from tests.service.serving import serving
from tests.tagmask.bundles import FIRST, SECOND, make_store
from tests.training.conftest import draw_photos
from training.networks.quantization import quantize

PHOTO = encoded()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("operations"))


@pytest.fixture(scope="module")
def client(store: Store) -> Iterator[httpx.Client]:
    with serving(store=store.root, watch_seconds=0.05) as client:
        yield client


def metrics(client: httpx.Client) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    answer = client.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def value(samples: dict[tuple[str, frozenset[tuple[str, str]]], float], name: str, **labels: str) -> float:
    return samples.get((name, frozenset(labels.items())), 0.0)


def test_probes(client: httpx.Client) -> None:
    assert client.get("/livez").json() == {"status": "alive"}
    ready = client.get("/readyz").json()
    runs = {"provider": "CPUExecutionProvider", "precision": "fp32"}
    assert ready == {"status": "ready", "model": FIRST, **runs, "samples": False, "refused": None}


@pytest.mark.parametrize(("gain", "precision"), [(0, "fp32"), (float("inf"), "int8")])
def test_readyz_tells_the_precision_in_use(
    colour_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gain: float, precision: str
) -> None:
    photos = [photo.path for photo in draw_photos(tmp_path, 3).photos]
    model = tmp_path / "int8.onnx"
    model.write_bytes(quantize(read_bundle(colour_bundle), photos).data)
    monkeypatch.setattr(tagmask.network, "_FLOAT_GAIN", gain)  # float is always used, or never
    with serving(model=model) as client:
        assert client.get("/readyz").json()["precision"] == precision
        answer = client.post("/v1/segment", files={"image": photos[0].read_bytes()})
        assert (answer.status_code, answer.headers["X-Model-Version"]) == (200, read_metadata(model).version)


def test_requests_are_counted_by_route_method_and_status(client: httpx.Client) -> None:
    requests = {
        ("/v1/segment", "POST", "200"): 3,
        ("/v1/segment", "POST", "422"): 1,
        ("/v1/segment", "GET", "405"): 1,
        ("/v1/models/{version}", "GET", "404"): 2,
        ("other", "GET", "404"): 1,
        ("other", "other", "404"): 1,
    }

    def counts() -> list[float]:
        samples = metrics(client)
        return [
            value(samples, "tagmask_requests_total", route=route, method=method, status=status)
            for route, method, status in requests
        ]

    before = counts()
    for _ in range(3):
        client.post("/v1/segment", files={"image": PHOTO})
    client.post("/v1/segment", files={"image": b"x"})
    client.get("/v1/segment")
    client.get("/v1/models/a")
    client.get("/v1/models/b")
    client.get("/some/path")
    client.request("BREW", "/another/path")
    assert [after - now for now, after in zip(before, counts(), strict=True)] == [*requests.values()]


def test_stages_of_photos_are_timed(client: httpx.Client) -> None:
    stages = ("decode", "inference", "refine", "encode")

    def counts() -> list[float]:
        samples = metrics(client)
        return [value(samples, "tagmask_stage_seconds_count", stage=stage) for stage in stages]

    before, seconds = counts(), sum_of(client)
    client.post("/v1/segment", files={"image": PHOTO})
    client.post("/v1/segment/batch", files=[("image", ("a", PHOTO))] * 2, data={"format": "json"})
    assert [after - now for now, after in zip(before, counts(), strict=True)] == [3, 3, 3, 3]
    assert sum_of(client) > seconds


def sum_of(client: httpx.Client) -> float:
    return sum(number for (name, _), number in metrics(client).items() if name == "tagmask_stage_seconds_sum")


def test_requests_are_timed_and_none_is_left_in_progress(client: httpx.Client) -> None:
    before = value(metrics(client), "tagmask_request_seconds_count", route="/v1/segment")
    client.post("/v1/segment", files={"image": PHOTO})
    samples = metrics(client)
    assert value(samples, "tagmask_request_seconds_count", route="/v1/segment") - before == 1
    assert (value(samples, "tagmask_queue_depth"), value(samples, "tagmask_in_work")) == (0, 0)


def test_client_input_makes_no_new_series(client: httpx.Client) -> None:
    client.get("/a")
    client.request("FIRST", "/v1/segment")
    before = len(metrics(client))
    for path in ("/b", "/c/d", "/e%20f"):
        client.get(path)
    client.request("SECOND", "/v1/segment")
    assert len(metrics(client)) == before


def test_model_info_follows_a_switch(client: httpx.Client) -> None:
    def versions() -> set[str]:
        samples = metrics(client)
        return {
            dict(labels)["version"]
            for (name, labels), number in samples.items()
            if name == "tagmask_model_info" and number
        }

    assert FIRST in versions()
    assert client.post(f"/v1/models/{SECOND}/activate").status_code == 200
    assert SECOND in versions()
    assert FIRST not in versions()
    assert client.post("/v1/models/rollback").status_code == 200
    assert FIRST in versions()


def test_times_of_the_model_and_of_its_promotion_follow_a_switch(store: Store, client: httpx.Client) -> None:
    def follows() -> bool:
        samples, champion = metrics(client), store.champion()
        created = read_bundle(store.path(champion.version)).metadata.created if champion else None
        return (
            created is not None
            and value(samples, "tagmask_model_created_timestamp_seconds") == created.timestamp()
            and value(samples, "tagmask_promotion_timestamp_seconds") == champion.since.timestamp()
        )

    for request in (f"/v1/models/{SECOND}/activate", "/v1/models/rollback"):
        assert client.post(request).status_code == 200
        end = time.monotonic() + 20
        while not follows():
            assert time.monotonic() < end, request
            time.sleep(0.05)


def test_the_docs_page_is_complete_and_loads_nothing_from_elsewhere(client: httpx.Client) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'")
    assert "<script>" not in page.text
    parts = re.findall(r'(?:href|src)="([^"]+)"', page.text)
    assert parts.pop(0) == "data:,"  # no icon is range_header for
    assert len(parts) == 3
    for part in parts:
        answer = client.get(f"/{part}")
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].split(";")[0] == (
            "text/css" if part.endswith(".css") else "text/javascript"
        )
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert len(answer.content) > 50
    assert 'url: "openapi.json"' in client.get("/docs/start.js").text


@pytest.mark.parametrize(
    "range_header", ["bytes=0-9", "bytes=x", "bytes=5-2", "bytes=999999999-", "lines=1", "bytes=0-1,3-4"]
)
def test_assets_ignore_range_headers(client: httpx.Client, range_header: str) -> None:
    file = client.get("/docs/assets/swagger-ui.css")
    part = client.get("/docs/assets/swagger-ui.css", headers={"Range": range_header})
    assert (part.status_code, part.content) == (200, file.content)


def test_stopping_ends_its_processes_however_long_that_takes(
    colour_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = ConcurrencyLimit.close
    monkeypatch.setattr(ConcurrencyLimit, "close", lambda gate: (time.sleep(0.5), close(gate)))
    before = set(psutil.Process().children())
    with serving(model=colour_bundle) as client:
        answer = client.post("/v1/segment", files={"image": encoded()}, data={"refine": "crf", "tags": "cat"})
        assert answer.status_code == 200, answer.text
        assert len(set(psutil.Process().children()) - before) == 1
    assert set(psutil.Process().children()) == before
