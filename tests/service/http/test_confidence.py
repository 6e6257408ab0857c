"""Every way to a mask tells the same about how good it is."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service import telemetry
from service.http.confidence import Confidence
from tagmask import Client, Result
from tagmask.formats import FORMATS
from tests.service.http.colour_photos import CAT, encoded, only, picture
from tests.service.serving import serving

CAT_ALONE = encoded(picture(only(CAT)))


@pytest.fixture(scope="module")
def client(colour_bundle: Path) -> Iterator[httpx.Client]:
    with serving(model=colour_bundle, log_level="error") as client:
        yield client


def segment(client: httpx.Client, format: str, *tags: str) -> httpx.Response:
    return client.post("/v1/segment", files={"image": CAT_ALONE}, data={"tags": list(tags), "format": format})


def told(result: Result) -> dict[str, Any]:
    return {name: getattr(result, name) for name in ("expected_iou", "low_confidence", "unpainted")}


@pytest.mark.parametrize("tags", [(), ("cat",), ("dog", "cat"), ("dog",)])
def test_headers_batches_kserve_and_clients_agree(client: httpx.Client, tags: tuple[str, ...]) -> None:
    with Client(str(client.base_url)) as ours:
        expected = told(ours.segment(CAT_ALONE, tags))
        (in_batch,) = ours.segment_batch([CAT_ALONE], tags)
        assert isinstance(in_batch, Result)
        assert told(in_batch) == expected
    unpainted = tuple({"dog"}.intersection(tags))
    assert expected["unpainted"] == unpainted
    assert expected["low_confidence"] == ("dog" in tags) == (expected["expected_iou"] < 0.6)

    for name in FORMATS:
        headers = segment(client, name, *tags).headers
        assert float(headers["X-Expected-IoU"]) == expected["expected_iou"]
        assert headers["X-Low-Confidence"] == str(expected["low_confidence"]).lower()
        assert headers["X-Unpainted"] == ",".join(unpainted)
    batch = client.post("/v1/segment/batch", files={"image": CAT_ALONE}, data={"tags": list(tags), "format": "coco"})
    (answer,) = batch.json()["answers"]
    assert {name: answer[name] for name in expected} == {**expected, "unpainted": list(unpainted)}

    image = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(CAT_ALONE).decode()]}
    inputs = [image, {"name": "tags", "datatype": "BYTES", "shape": [len(tags)], "data": list(tags)}]
    kserve = client.post(
        "/v2/models/tagmask/infer", json={"inputs": inputs, "outputs": [{"name": "expected_iou"}]}
    ).json()
    assert kserve["parameters"] == {**expected, "unpainted": ",".join(unpainted)}
    document = segment(client, "json", *tags).json()
    (output,) = kserve["outputs"]
    ious = {each["label"]: each["expected_iou"] for each in document["classes"]}
    assert output["data"] == [ious.get(label, 0) for label in range(3)]
    assert (document["expected_iou"], document["low_confidence"]) == (
        expected["expected_iou"],
        expected["low_confidence"],
    )
    assert [each["name"] for each in document["classes"] if not each["painted"]] == list(unpainted)


def test_the_limit_is_a_setting(colour_bundle: Path) -> None:
    for limit, low in ((0.4, "false"), (0.6, "true")):
        with serving(model=colour_bundle, log_level="error", low_confidence=limit) as client:
            headers = segment(client, "png", "cat", "dog").headers
            assert float(headers["X-Expected-IoU"]) == pytest.approx(0.5, abs=0.01)  # the mean of cat and dog
            assert headers["X-Low-Confidence"] == low


def test_names_in_headers_are_ascii() -> None:
    confidence = Confidence(0.25, True, ["öl", "a,b"])
    assert confidence.headers["X-Unpainted"] == "%C3%B6l,a%2Cb"
    assert confidence.parameters["unpainted"] == "öl,a,b"


def test_headers_stay_small_whatever_is_unpainted():
    names = [f"{number:03}" for number in range(250)]
    headers = Confidence(0.5, True, names).headers
    assert headers["X-Unpainted"] == ",".join(names)
    headers = Confidence(0.5, True, [*names, "𐍈" * 100]).headers
    assert headers["X-Unpainted"] == ",".join([*names, "%E2%80%A6"])


def test_metrics_count_masks_classes_and_tags(client: httpx.Client) -> None:
    def counts() -> np.ndarray:
        samples = {
            (sample.name, sample.labels.get("class")): sample.value
            for family in text_string_to_metric_families(client.get("/metrics").text)
            for sample in family.samples
            if sample.labels.keys() <= {"class"}
        }
        names = (
            ("tagmask_expected_iou_count", None),
            ("tagmask_low_confidence_total", None),
            ("tagmask_empty_masks_total", None),
            *((f"tagmask_class_expected_iou_{part}", name) for part in ("count", "sum") for name in ("cat", "dog")),
            ("tagmask_unpainted_tags_total", "dog"),
        )
        return np.array([samples.get(name, 0) for name in names])

    before = counts()
    headers = [segment(client, "png", *tags).headers for tags in (["cat"], ["dog"], ["dog", "cat"], [])]
    cat = float(headers[0]["X-Expected-IoU"]) + 2 * float(headers[2]["X-Expected-IoU"])
    cat += float(headers[3]["X-Expected-IoU"])
    np.testing.assert_allclose(counts() - before, [4, 2, 1, 3, 2, cat, 0, 2], atol=1e-3)


def test_classes_of_many_models_share_a_label(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "_classes", {"öl"})
    monkeypatch.setattr("tagmask.masks.MAX_CLASSES", 2)
    for _ in range(2):
        segment(client, "png", "cat", "dog")
    lines = client.get("/metrics").text.splitlines()
    assert 'tagmask_unpainted_tags_total{class="other"} 2.0' in lines
