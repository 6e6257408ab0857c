"""KServe's V2 protocol, spoken by NVIDIA's own client for it."""

import base64
import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from service.http.kserve.endpoints import OPERATIONS
from tests.service.http.colour_photos import BACKGROUND, CAT, DOG, MASK, decoded, encoded, only, picture, png_header
from tests.service.http.sockets import connect, post
from tests.service.serving import serving
from tests.tagmask.bundles import FIRST, SECOND, make_store

PIXELS = np.array(picture())
INFER = "/v2/models/tagmask/infer"
KEY = "the key of a user"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    limits: dict[str, Any] = {"max_body_bytes": 60_000, "max_pixels": 15_000, "max_tags": 3, "log_level": "error"}
    with serving(store=make_store(tmp_path_factory.mktemp("kserve")).root, **limits) as client:
        yield client


@pytest.fixture(scope="module")
def triton(client: httpx.Client) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(f"{client.base_url.host}:{client.base_url.port}") as triton:
        yield triton


def tensor(name: str, value: Any, binary: bool = True) -> InferInput:
    array = value if isinstance(value, np.ndarray) else np.array(value, dtype=np.object_)
    tensor = InferInput(name, list(array.shape), "UINT8" if array.dtype == np.uint8 else "BYTES")
    return tensor.set_data_from_numpy(array, binary_data=binary)


def described(name: str = "image", datatype: str = "BYTES", shape: Any = (1,), **others: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": list(shape), **others}


def in_json(photo: bytes) -> dict[str, Any]:
    return described(data=[base64.b64encode(photo).decode()])


def error_of(answer: httpx.Response) -> str:
    """What a bad answer tells; it must have the one shape that the protocol knows."""
    assert answer.status_code >= 400
    assert answer.headers["Content-Type"] == "application/json"
    assert list(answer.json()) == ["error"]
    message = answer.json()["error"]
    assert isinstance(message, str)
    return message


def test_health_and_metadata(triton: InferenceServerClient) -> None:
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert "binary_tensor_data" in triton.get_server_metadata()["extensions"]
    metadata = triton.get_model_metadata("tagmask")
    assert (metadata["name"], metadata["versions"]) == ("tagmask", [FIRST, SECOND])
    assert {each["name"]: each["datatype"] for each in metadata["inputs"]} == {"image": "BYTES", "tags": "BYTES"}
    outputs = {each["name"]: (each["datatype"], each["shape"]) for each in metadata["outputs"]}
    assert outputs["mask"] == ("UINT8", [-1, -1])
    assert triton.get_model_metadata("tagmask", SECOND) == metadata


def test_only_the_serving_version_is_ready_and_answers(tmp_path: Path) -> None:
    with (
        serving(store=make_store(tmp_path).root, log_level="error") as client,
        InferenceServerClient(f"{client.base_url.host}:{client.base_url.port}") as triton,
    ):
        for serving_now, other in ((FIRST, SECOND), (SECOND, FIRST)):
            assert triton.is_model_ready("tagmask")
            assert triton.is_model_ready("tagmask", serving_now)
            assert not triton.is_model_ready("tagmask", other)
            for version in ("", serving_now):
                answer = triton.infer("tagmask", [tensor("image", [encoded()])], model_version=version)
                assert answer.get_response()["model_version"] == serving_now
            with pytest.raises(InferenceServerException, match=f"'{other}' is not served") as refusal:
                triton.infer("tagmask", [tensor("image", [encoded()])], model_version=other)
            assert refusal.value.status() == "409"
            assert client.post(f"/v1/models/{other}/activate").status_code == 200


@pytest.mark.parametrize("path", ["other", "tagmask/versions/none", "other/versions/" + FIRST])
def test_other_models_are_not_there(client: httpx.Client, path: str) -> None:
    for method, end in (("GET", ""), ("GET", "/ready"), ("POST", "/infer")):
        answer = client.request(method, f"/v2/models/{path}{end}")
        assert answer.status_code == 404
        assert "no model" in error_of(answer)
    assert client.get("/v2/models/none/of/these").status_code == 404
    assert "accepts POST" in error_of(client.get(INFER))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_a_photo_s_mask(triton: InferenceServerClient, kind: str) -> None:
    answer = triton.infer("tagmask", [tensor("image", [encoded(kind=kind)])], request_id="mine")
    np.testing.assert_array_equal(answer.as_numpy("mask"), MASK)
    assert answer.as_numpy("mask").dtype == np.uint8
    assert answer.get_response()["id"] == "mine"


@pytest.mark.parametrize("pixels", [PIXELS, PIXELS[None], PIXELS[:, :63], PIXELS[:1, :1]])
@pytest.mark.parametrize("binary", [True, False])
def test_pixels_are_segmented_like_their_photo(
    client: httpx.Client, triton: InferenceServerClient, pixels: Any, binary: bool
) -> None:
    answer = triton.infer("tagmask", [tensor("image", pixels, binary)])
    photo = encoded(Image.fromarray(pixels.reshape(pixels.shape[-3:])))
    theirs = client.post("/v1/segment", files={"image": photo})
    np.testing.assert_array_equal(answer.as_numpy("mask"), decoded(theirs.content))


@pytest.mark.parametrize("pixels", [PIXELS, PIXELS[None]])
@pytest.mark.parametrize("data", [PIXELS.ravel().tolist(), None])
def test_json_may_be_nested_or_flat(client: httpx.Client, pixels: Any, data: list[int] | None) -> None:
    image = described("image", "UINT8", pixels.shape, data=data or pixels.tolist())
    answer = client.post(INFER, json={"inputs": [image]})
    assert "Inference-Header-Content-Length" not in answer.headers
    (output,) = answer.json()["outputs"]
    assert output == {"name": "mask", "datatype": "UINT8", "shape": [48, 64], "data": MASK.ravel().tolist()}


def test_a_photo_in_base64(client: httpx.Client) -> None:
    answer = client.post(INFER, json={"id": "1", "inputs": [in_json(encoded())], "outputs": [{"name": "mask"}]})
    assert answer.headers["X-Model-Version"] == FIRST
    assert answer.json()["id"] == "1"
    np.testing.assert_array_equal(np.reshape(answer.json()["outputs"][0]["data"], (48, 64)), MASK)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize(
    ("tags", "labels"), [(["dog"], [DOG]), (["cat", "dog"], [CAT, DOG]), (["dog,cat"], [CAT, DOG])]
)
def test_only_the_tags_appear(triton: InferenceServerClient, tags: list[str], labels: list[int], binary: bool) -> None:
    answer = triton.infer("tagmask", [tensor("tags", tags, binary), tensor("image", [encoded()])])
    np.testing.assert_array_equal(answer.as_numpy("mask"), only(*labels))


@pytest.mark.parametrize("binary", [True, False])
def test_outputs_are_those_requested(client: httpx.Client, triton: InferenceServerClient, binary: bool) -> None:
    photo = encoded(picture().rotate(20, Image.Resampling.BILINEAR))  # colours between those of the classes
    wanted = [InferRequestedOutput(name, binary_data=binary) for name in ("confidence", "classes", "mask")]
    answer = triton.infer("tagmask", [tensor("image", [photo])], outputs=wanted)
    assert [each["name"] for each in answer.get_response()["outputs"]] == ["confidence", "classes", "mask"]
    theirs = client.post("/v1/segment", files={"image": photo}, data={"format": "confidence"})
    confidence = np.array(Image.open(BytesIO(theirs.content)))
    assert len(np.unique(confidence)) > 20
    np.testing.assert_array_equal(answer.as_numpy("confidence"), confidence)
    names = [name if isinstance(name, str) else name.decode() for name in answer.as_numpy("classes")]
    assert names == ["background", "cat", "dog"]
    assert answer.as_numpy("mask").shape == (48, 64)


@pytest.mark.parametrize("binary", [True, False])
def test_the_expected_iou_is_that_of_each_class(triton: InferenceServerClient, binary: bool) -> None:
    inputs = [tensor("image", [encoded()]), tensor("tags", ["cat"])]
    output = InferRequestedOutput("expected_iou", binary_data=binary)
    answer = triton.infer("tagmask", inputs, outputs=[output])
    ious = answer.as_numpy("expected_iou")
    assert (ious.shape, ious.dtype, ious[2]) == ((3,), np.float32, 0)
    parameters = answer.get_response()["parameters"]
    assert parameters == {"expected_iou": pytest.approx(ious[1]), "low_confidence": False, "unpainted": ""}


@pytest.mark.parametrize("binary", [True, False])
def test_a_model_without_tag_probabilities_tells_none(triton: InferenceServerClient, binary: bool) -> None:
    output = InferRequestedOutput("tag_probability", binary_data=binary)
    answer = triton.infer("tagmask", [tensor("image", [encoded()])], outputs=[output])
    assert answer.as_numpy("tag_probability").shape == (0,)


def test_binary_and_json_may_be_mixed(triton: InferenceServerClient) -> None:
    wanted = [InferRequestedOutput("mask", binary_data=False), InferRequestedOutput("confidence", binary_data=True)]
    answer = triton.infer("tagmask", [tensor("tags", ["cat"], False), tensor("image", [encoded()])], outputs=wanted)
    np.testing.assert_array_equal(answer.as_numpy("mask"), only(CAT))
    assert answer.as_numpy("confidence").shape == (48, 64)


def test_the_tile_is_a_parameter(triton: InferenceServerClient) -> None:
    mask = np.full((90, 160), BACKGROUND, dtype=np.uint8)
    mask[41, 121] = DOG  # lost in the mean of 2x2 pixels
    photo = [tensor("image", [encoded(picture(mask))])]
    assert (triton.infer("tagmask", photo).as_numpy("mask") == BACKGROUND).all()
    tiled = triton.infer("tagmask", photo, parameters={"tile": 80})
    np.testing.assert_array_equal(tiled.as_numpy("mask"), mask)
    with pytest.raises(InferenceServerException, match="tile '7' is not 0 or 32 to 65535"):
        triton.infer("tagmask", photo, parameters={"tile": 7})


def test_refinement_is_a_parameter(triton: InferenceServerClient) -> None:
    photo = [tensor("image", [encoded()])]
    answer = triton.infer("tagmask", photo, parameters={"refine": "crf"})
    np.testing.assert_array_equal(answer.as_numpy("mask"), MASK)
    with pytest.raises(InferenceServerException, match="'sharp' is not one of smooth, crf, none"):
        triton.infer("tagmask", photo, parameters={"refine": "sharp"})


@pytest.mark.parametrize(
    ("inputs", "more", "status", "message"),
    [
        ([], {}, 422, "inputs: List should have at least 1 item"),
        ([described("tags", data=["cat"])], {}, 422, "no input 'image'"),
        ([described("photo", data=["x"])], {}, 422, "the inputs are image, tags"),
        ([in_json(encoded())] * 2, {}, 422, "appears twice"),
        ([in_json(b"no photo")], {}, 422, "not an image of a known type"),
        ([in_json(encoded()), described("tags", data=["zebra"])], {}, 422, "it knows cat, dog"),
        ([in_json(encoded()), described("tags", shape=(4,), data=list("abcd"))], {}, 422, "at most 3"),
        ([described(data=["not base64"])], {}, 422, "not base64"),
        ([described(shape=(2,), data=["eA==", "eA=="])], {}, 422, "one per request"),
        ([described(shape=(2,), data=["eA=="])], {}, 422, "has 1 elements, but 2 by its shape"),
        ([described(data=[1])], {}, 422, "elements other than text"),
        ([described(data="eA==")], {}, 422, "send a list"),
        ([described()], {}, 422, "has no data"),
        ([described(datatype="FP32", data=[1.0])], {}, 422, "send BYTES"),
        ([described("tags", "UINT8", data=[1]), in_json(encoded())], {}, 422, "send BYTES"),
        ([described(datatype="UINT8", shape=(2, 2), data=[1] * 4)], {}, 422, "[H, W, 3]"),
        ([described(datatype="UINT8", shape=(2, 0, 3), data=[])], {}, 422, "[H, W, 3]"),
        ([described(datatype="UINT8", shape=(-1, -1, 3), data=[1] * 3)], {}, 422, "[H, W, 3]"),
        ([described(datatype="UINT8", shape=(2, 2, 3, 1), data=[1] * 12)], {}, 422, "[H, W, 3]"),
        ([described(datatype="UINT8", shape=(1, 2, 3), data=[1] * 5)], {}, 422, "has 5 values, but 6"),
        ([described(datatype="UINT8", shape=(1, 1, 3), data=[1, 2, 256])], {}, 422, "0 to 255"),
        ([described(datatype="UINT8", shape=(1, 1, 3), data=[1, 2, 0.5])], {}, 422, "0 to 255"),
        ([described(datatype="UINT8", shape=(1, 1, 3), data=[[[1, 2], 3]])], {}, 422, "0 to 255"),
        ([described(shape=["1"], data=["x"])], {}, 422, "inputs.0.shape.0: Input should be a valid integer"),
        ([described(parameters={"binary_data_size": 5})], {}, 422, "binary_data_size is 5, but 0 bytes are left"),
        ([described(parameters={"binary_data_size": "5"})], {}, 422, "binary_data_size is 5"),
        ([described(parameters={"shared_memory_region": "x"})], {}, 422, "has no data"),
        ([in_json(encoded())], {"outputs": [{"name": "boxes"}]}, 422, "the outputs are mask, confidence, classes"),
        (
            [in_json(encoded())],
            {"outputs": [{"name": "mask", "parameters": {"shared_memory_region": "x"}}]},
            422,
            "shared_memory_region is not supported",
        ),
        ([in_json(bytes(60_000))], {}, 413, "60,000 bytes"),
        ([described(datatype="UINT8", shape=(1, 15_001, 3), data=[0] * 45_003)], {}, 413, "60,000 bytes"),
    ],
)
def test_errors_are_reported(
    client: httpx.Client, inputs: list[Any], more: dict[str, Any], status: int, message: str
) -> None:
    answer = client.post(INFER, json={"inputs": inputs, **more})
    assert answer.status_code == status
    assert message in error_of(answer)


def framed(document: Any, binary: bytes = b"", length: str | None = None) -> tuple[bytes, dict[str, str]]:
    head = json.dumps(document).encode()
    return head + binary, {"Inference-Header-Content-Length": str(len(head)) if length is None else length}


BINARY_IMAGE = {"inputs": [described(parameters={"binary_data_size": 9})]}


@pytest.mark.parametrize(
    ("body", "headers", "status", "message"),
    [
        (b"", {}, 400, "not JSON"),
        (b"[" * 100_000, {}, 413, "bytes"),
        (b"[" * 10_000, {}, 400, "not JSON"),
        (b'{"inputs": NaN}', {}, 400, "not JSON"),
        (b"[]", {}, 422, "the body: Input should be"),
        (b'{"inputs": []}', {"Content-Encoding": "gzip"}, 415, "send the body uncompressed"),
        (*framed(BINARY_IMAGE, b"12345"), 422, "5 bytes are left"),
        (*framed({"inputs": [described(shape=[10**4000] * 8)]}), 422, "shape.0: Input should be less than"),
        (*framed(BINARY_IMAGE, bytes(12)), 400, "3 bytes after the JSON belong to no tensor"),
        (*framed(BINARY_IMAGE, b"\xff\xff\0\0 five"), 422, "ends within"),
        (*framed(BINARY_IMAGE, b"\1\0\0\0x\1\0\0\0"), 422, "ends within"),
        (*framed(BINARY_IMAGE, b"\1\0\0\0x\1\0\0y"), 422, "ends within"),
        (*framed(BINARY_IMAGE, b"\0\0\0\0\1\0\0\0x"), 422, "has more than 1 elements, but 1 by its shape"),
        (*framed({"inputs": [described(shape=[1001])]}), 422, "has 1,001 elements by its shape, more than 1,000"),
        (*framed({"inputs": [in_json(encoded())]}, b"", "-1"), 400, "Inference-Header-Content-Length is '-1'"),
        (*framed({"inputs": [in_json(encoded())]}, b"", "9" * 5000), 400, "at most the"),
        (*framed({"inputs": [in_json(encoded())]}, b"", "0" * 5000), 400, "at most the"),
        (*framed({"inputs": [in_json(encoded())]}, b"", "0"), 400, "not JSON"),
    ],
)
def test_broken_bodies_are_reported(
    client: httpx.Client, body: bytes, headers: dict[str, str], status: int, message: str
) -> None:
    answer = client.post(INFER, content=body, headers=headers)
    assert answer.status_code == status
    assert message in error_of(answer)


def test_pixels_are_limited_before_they_are_decoded(triton: InferenceServerClient) -> None:
    for photo in ([png_header(20_000, 20_000)], np.zeros((151, 100, 3), dtype=np.uint8)):
        with pytest.raises(InferenceServerException, match="more than 15000; scale it down") as refusal:
            triton.infer("tagmask", [tensor("image", photo)])
        assert refusal.value.status() == "413"


def test_requests_beyond_the_limit_are_refused(colour_bundle: Path) -> None:
    head = post(INFER, Content_Length="10", Expect="100-continue")
    with serving(model=colour_bundle, max_concurrent=1, max_queued=0) as client, connect(client) as waiting:
        waiting.sendall(head)
        assert waiting.recv(100).startswith(b"HTTP/1.1 100 ")
        answer = client.post(INFER, json={})
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert "try again" in error_of(answer)
        assert client.get("/v2/health/ready").status_code == 200


def test_timeouts_are_reported(colour_bundle: Path) -> None:
    """DenseCRF's process alone takes longer to start."""
    with serving(model=colour_bundle, max_seconds=0.05) as client:
        answer = client.post(INFER, json={"inputs": [in_json(encoded())], "parameters": {"refine": "crf"}})
        assert answer.status_code == 504
        assert "0.05 seconds" in error_of(answer)


def test_all_but_health_needs_a_key(colour_bundle: Path) -> None:
    with serving(model=colour_bundle, api_keys=KEY) as client:
        for operation in OPERATIONS:
            path = operation.path.format(name="tagmask", version="x")
            answer = client.request(operation.method, path)
            if path.startswith("/v2/health/"):
                assert answer.status_code == 200
            else:
                assert answer.status_code == 401
                assert "API key" in error_of(answer)
        with InferenceServerClient(f"{client.base_url.host}:{client.base_url.port}") as triton:
            answer = triton.infer("tagmask", [tensor("image", [encoded()])], headers={"Authorization": f"Bearer {KEY}"})
            np.testing.assert_array_equal(answer.as_numpy("mask"), MASK)


values = st.none() | st.booleans() | st.integers(-2, 300) | st.floats(allow_nan=False) | st.text(max_size=5)
anything = st.recursive(values, lambda part: st.lists(part, max_size=4) | st.dictionaries(st.text(max_size=5), part))
parameters = st.dictionaries(st.sampled_from(["binary_data_size", "binary_data", "refine", "tile"]), values, max_size=2)
inputs = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["image", "tags"]) | st.text(max_size=5),
        "datatype": st.sampled_from(["BYTES", "UINT8", "FP32"]),
        "shape": st.lists(st.integers(-1, 4) | st.just(3), max_size=9),
    },
    optional={"data": st.lists(values, max_size=30) | anything, "parameters": parameters},
)
requests = st.fixed_dictionaries(
    {"inputs": st.lists(inputs | anything, max_size=3)},
    optional={
        "id": values,
        "parameters": parameters | values,
        "outputs": st.lists(st.fixed_dictionaries({"name": st.sampled_from(["mask", "x"])}) | values, max_size=2),
    },
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(request=requests | anything, binary=st.binary(max_size=40), cut=st.integers(-3, 3))
def test_any_request_gets_a_response_or_an_error(client: httpx.Client, request: Any, binary: bytes, cut: int) -> None:
    head = json.dumps(request).encode()
    length = {"Inference-Header-Content-Length": str(len(head) + cut)} if binary else {}
    answer = client.post(INFER, content=head + binary, headers=length)
    assert answer.status_code in (200, 400, 413, 415, 422)
    if answer.status_code != 200:
        error_of(answer)
