"""A model that tells tags tells them through every way to a mask, and without given tags they count."""

import base64
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from PIL import Image

from tagmask import Client
from tests.service.http.colour_photos import CAT, decoded, encoded, only, picture
from tests.service.serving import serving
from tests.training.colour_bundle import write_tagged_bundle

PROBABILITIES = {"cat": 0.002, "dog": 0.95}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    bundle = write_tagged_bundle(tmp_path_factory.mktemp("bundle") / "model.onnx", (0.002, 0.95), (0.5, 0.5))
    with serving(model=bundle, log_level="error") as client:
        yield client


def test_clients_json_and_kserve_agree(client: httpx.Client) -> None:
    photo = encoded()
    with Client(str(client.base_url)) as ours:
        assert ours.segment(photo).tags == PROBABILITIES
        assert ours.segment(photo, ["cat"]).tags == PROBABILITIES
    document = client.post("/v1/segment", files={"image": photo}, data={"format": "json"}).json()
    assert document["tags"] == [{"name": "dog", "probability": 0.95}, {"name": "cat", "probability": 0.002}]
    image = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(photo).decode()]}
    body = {"inputs": [image], "outputs": [{"name": "tag_probability"}]}
    (output,) = client.post("/v2/models/tagmask/infer", json=body).json()["outputs"]
    assert (output["datatype"], output["shape"], output["data"]) == ("FP32", [3], [1, 0.002, 0.95])


def test_an_unlikely_tag_counts_unless_it_is_given(client: httpx.Client) -> None:
    """The photo's cat is nearly as much like background."""
    pixels = np.array(picture(only(CAT)), dtype=float)
    background = pixels[0, 0]
    faded = encoded(Image.fromarray((pixels + 0.47 * (background - pixels)).round().astype(np.uint8)))
    assert not decoded(client.post("/v1/segment", files={"image": faded}).content).any()
    assert decoded(client.post("/v1/segment", files={"image": faded}, data={"tags": ["cat"]}).content).any()
