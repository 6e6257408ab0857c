"""Clients of a real service."""

import asyncio
import inspect
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from cvat_sdk.masks import decode_mask
from PIL import Image
from pycocotools import mask as coco_rle

from tagmask.client import AsyncClient, Client, NoAnswerError, RequestError, Result
from tagmask.formats import FORMATS
from tagmask.inputs import Photo
from tests.service.http.colour_photos import BACKGROUND, CAT, DOG, MASK, encoded, only, picture
from tests.service.serving import serving
from tests.tagmask.bundles import FIRST, SECOND, make_store
from tests.tagmask.client.answers import Answer, answering
from tests.training.colour_bundle import COLOURS

KEY = "a user's own key"
VERSION = "0123456789ab"


@pytest.fixture(scope="module")
def url(colour_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    inbox = tmp_path_factory.mktemp("inbox")
    with serving(model=colour_bundle, inbox=inbox, api_keys=KEY, max_pixels=20_000, max_files=4) as server:
        yield str(server.base_url)


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[Client]:
    with Client(url, api_key=KEY) as client:
        yield client


def as_path(folder: Path) -> Path:
    path = folder / "photo.png"
    path.write_bytes(encoded())
    return path


@pytest.mark.parametrize(
    "photo",
    [
        as_path,
        lambda folder: str(as_path(folder)),
        lambda folder: encoded(kind="JPEG"),
        lambda folder: np.array(picture()),
        lambda folder: np.array(picture())[:, :, ::-1].copy()[:, :, ::-1],  # not contiguous
    ],
)
def test_a_photo_is_a_path_or_bytes_or_an_array(client: Client, tmp_path: Path, photo: Callable[[Path], Photo]) -> None:
    result = client.segment(photo(tmp_path))
    assert result.mask.dtype == np.uint8
    np.testing.assert_array_equal(result.mask, MASK)


def test_a_result_tells_classes_colours_and_model(client: Client) -> None:
    result = client.segment(encoded())
    assert result.classes == ("background", "cat", "dog")
    assert result.version == VERSION
    assert result.present == ("cat", "dog")
    np.testing.assert_array_equal(result.palette, [[0, 0, 0], [128, 0, 0], [0, 128, 0]])  # VOC's colours
    np.testing.assert_array_equal(result.mask_of("cat"), MASK == CAT)
    np.testing.assert_array_equal(result.mask_of("background"), MASK == BACKGROUND)
    image = Image.open(BytesIO(result.answers["png"]))
    np.testing.assert_array_equal(image.convert("RGB"), result.palette[result.mask])
    assert list(result.answers) == ["png"]


@pytest.mark.parametrize(
    ("tags", "labels"), [((), (CAT, DOG)), (["dog"], (DOG,)), ("dog", (DOG,)), ({"dog", "cat"}, (CAT, DOG))]
)
def test_only_tags_appear(client: Client, tags: Any, labels: tuple[int, ...]) -> None:
    result = client.segment(encoded(), tags)
    np.testing.assert_array_equal(result.mask, only(*labels))
    assert result.present == tuple(list(COLOURS)[label] for label in labels)


def test_tags_may_come_from_an_iterator(client: Client) -> None:
    result = client.segment(encoded(), (tag for tag in ["dog"]), formats=["json"])
    assert result.document("json")["labels"] == ["background", "dog"]


def test_refine_reaches_the_service(client: Client) -> None:
    between = np.add(COLOURS["background"], COLOURS["cat"]) // 2
    photo = np.full((60, 80, 3), np.add(between, (3, -3, -1)), dtype=np.uint8)  # nearer to cat
    photo[20, 30] = np.add(between, (-1, 1, 0))  # hardly nearer to background, which refinement takes away
    assert client.segment(photo, refine="none").mask[20, 30] == BACKGROUND
    assert (client.segment(photo, refine="crf").mask == CAT).all()
    assert (client.segment(photo).mask == CAT).all()


def test_every_format_comes_with_the_mask(client: Client, decode_rle: Callable[[list[int]], Any]) -> None:
    everything: Any = [name for name in FORMATS if name != "png"]
    result = client.segment(encoded(), formats=everything)
    assert list(result.answers) == list(FORMATS)
    np.testing.assert_array_equal(result.mask, MASK)
    assert (result.confidence.shape, result.confidence.dtype) == (MASK.shape, np.uint8)
    assert result.confidence.min() > 127
    assert result.overlay.shape == (*MASK.shape, 3)
    assert result.document("json")["model"] == {"version": VERSION}

    height, width = MASK.shape
    rebuilt = np.zeros((4, height, width), dtype=np.uint8)
    for annotation in result.document("coco")["annotations"]:
        rebuilt[0][coco_rle.decode(annotation["segmentation"]) == 1] = annotation["category_id"]
    for polygon in result.document("polygons")["polygons"]:
        outline = shapely.Polygon(polygon["exterior"], polygon["holes"])
        x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
        rebuilt[1][shapely.contains_xy(outline, x, y)] = polygon["label"]
    for shape in result.document("cvat")["shapes"]:
        where = decode_mask(shape["points"], image_width=width, image_height=height)
        rebuilt[2][where] = result.classes.index(shape["label"])
    for brush in result.document("label-studio")["result"]:
        rgba = decode_rle(brush["value"]["rle"]).reshape(height, width, 4)
        rebuilt[3][rgba[..., 3] == 255] = result.classes.index(brush["value"]["brushlabels"][0])
    for mask in rebuilt:
        np.testing.assert_array_equal(mask, MASK)


def test_overlay_is_rgb(client: Client) -> None:
    photo = np.full((40, 60, 3), COLOURS["background"], dtype=np.uint8)
    overlay = client.segment(photo, formats=["overlay"]).overlay
    np.testing.assert_array_equal(overlay, photo)


def test_what_was_not_asked_for_says_how(client: Client) -> None:
    result = client.segment(encoded(), formats=["coco"])
    for access in (lambda: result.confidence, lambda: result.overlay, lambda: result.document("cvat")):
        with pytest.raises(KeyError, match=r"segment\(…, formats="):
            access()
    with pytest.raises(KeyError, match="no class 'bird'; model 0123456789ab has background, cat, dog"):
        result.mask_of("bird")


def test_a_refusal_carries_what_the_problem_says(client: Client) -> None:
    with pytest.raises(RequestError, match="does not know 'bird'; it knows cat, dog") as refusal:
        client.segment(encoded(), ["bird"])
    fault = refusal.value
    assert (fault.status, fault.code, fault.field, fault.limit) == (422, "unknown_tag", "tags", "cat, dog")
    assert fault.message == str(fault)
    assert len(fault.headers["x-request-id"]) == 32


@pytest.mark.parametrize(
    ("photo", "options", "expected"),
    [
        (np.zeros((200, 200, 3), dtype=np.uint8), {}, (413, "too_many_pixels", "image", 20_000)),
        (b"", {}, (422, "empty_image", "image", None)),
        (b"no photo", {}, (422, "not_an_image", "image", None)),
        (b"%PDF-1.7", {}, (415, "unsupported_image", "image", None)),
        (encoded(), {"refine": "magic"}, (422, "bad_refine", "refine", "smooth, crf, none")),
        (encoded(), {"formats": ["gif"]}, (422, "bad_format", "format", ", ".join(FORMATS))),
        (encoded(), {"tags": [str(number) for number in range(33)]}, (422, "too_many_tags", "tags", 32)),
    ],
)
def test_other_refusals(client: Client, photo: Photo, options: dict[str, Any], expected: tuple[Any, ...]) -> None:
    with pytest.raises(RequestError) as refusal:
        client.segment(photo, **options)
    fault = refusal.value
    assert (fault.status, fault.code, fault.field, fault.limit) == expected


@pytest.mark.parametrize(
    "photo",
    [
        np.zeros((8, 8), dtype=np.uint8),
        np.zeros((8, 8, 4), dtype=np.uint8),
        np.zeros((8, 8, 3), dtype=np.float32),
        np.zeros((0, 8, 3), dtype=np.uint8),
    ],
)
def test_an_array_that_is_no_photo_is_not_sent(photo: Any) -> None:
    with answering(Answer(500)) as server, Client(server.url) as client:
        with pytest.raises(ValueError, match=r"pass \(H, W, 3\) of uint8"):
            client.segment(photo)
        with pytest.raises(FileNotFoundError, match=r"nowhere\.jpg"):
            client.segment("nowhere.jpg")
    assert server.paths == []


def test_keys(url: str) -> None:
    for key, code in ((None, "key_missing"), ("another user's key", "key_unknown")):
        with Client(url, api_key=key) as client, pytest.raises(RequestError) as refusal:
            client.models()
        assert (refusal.value.status, refusal.value.code) == (401, code)


def test_a_batch_has_a_result_or_a_fault_for_each(client: Client) -> None:
    good, bad, tall = client.segment_batch([encoded(), b"no photo", encoded(picture(MASK.T))], "cat")
    assert isinstance(good, Result)
    assert isinstance(tall, Result)
    np.testing.assert_array_equal(good.mask, only(CAT))
    np.testing.assert_array_equal(tall.mask, only(CAT).T)
    assert good.version == VERSION
    assert isinstance(bad, RequestError)
    assert (bad.status, bad.code, bad.field) == (422, "not_an_image", "image")


def test_a_batch_beyond_the_limit_is_refused(client: Client) -> None:
    with pytest.raises(RequestError) as refusal:
        client.segment_batch([encoded()] * 5)
    assert (refusal.value.status, refusal.value.limit) == (413, 4)


def test_a_sample_is_kept_once(client: Client) -> None:
    first = client.add_sample(encoded(), ["dog", "cat"])
    assert first == {"id": first["id"], "tags": ["cat", "dog"], "created": True, "corrected": False}
    assert client.add_sample(encoded(), "bird") == {**first, "tags": ["bird", "cat", "dog"], "created": False}
    with pytest.raises(RequestError) as refusal:
        client.add_sample(encoded(), [])
    assert refusal.value.code == "bad_tags"


def test_models_are_listed(tmp_path: Path) -> None:
    with serving(store=make_store(tmp_path).root) as server, Client(str(server.base_url)) as client:
        assert {model["version"]: model["serving"] for model in client.models()} == {FIRST: True, SECOND: False}


def test_both_clients_have_the_same_methods() -> None:
    for name, method in vars(Client).items():
        if not name.startswith("_"):
            assert inspect.signature(method) == inspect.signature(getattr(AsyncClient, name)), name


def test_async_does_the_same(url: str, client: Client) -> None:
    async def ask() -> tuple[Any, ...]:
        async with AsyncClient(url, api_key=KEY) as ours:
            with pytest.raises(RequestError) as refusal:
                await ours.segment(encoded(), ["bird"])
            return (
                await ours.segment(np.array(picture()), "cat", formats=["confidence"]),
                await ours.segment_batch([encoded(), b"no photo"]),
                await ours.add_sample(encoded(kind="BMP"), ["cat"]),
                await ours.models(),
                refusal.value.code,
            )

    result, batch, sample, models, code = asyncio.run(ask())
    np.testing.assert_array_equal(result.mask, only(CAT))
    np.testing.assert_array_equal(
        result.confidence, client.segment(encoded(), "cat", formats=["confidence"]).confidence
    )
    np.testing.assert_array_equal(batch[0].mask, MASK)
    assert batch[1].code == "not_an_image"
    assert sample["created"]
    assert models == client.models()
    assert code == "unknown_tag"


def test_a_service_with_one_place_answers_all_in_the_end(colour_bundle: Path) -> None:
    photo = encoded(picture(np.kron(MASK, np.ones((20, 20), dtype=np.uint8))))

    async def ask(url: str) -> list[Result]:
        async with AsyncClient(url) as client:
            return await asyncio.gather(*(client.segment(photo, formats=["overlay"]) for _ in range(4)))

    with serving(model=colour_bundle, max_concurrent=1, max_queued=0) as server:
        results = asyncio.run(ask(str(server.base_url)))
        refused = 'route="/v1/segment",status="503"}' in server.get("/metrics").text
    assert refused, "the service was never busy"
    assert all((result.mask == results[0].mask).all() for result in results)


def test_threads_share_a_client(client: Client) -> None:
    with ThreadPoolExecutor(4) as threads:
        for result in threads.map(client.segment, [encoded()] * 12):
            np.testing.assert_array_equal(result.mask, MASK)


class TestAModelThatChangesBetweenFormats:
    """The store is watched by the service, so that any two requests may meet the model changed between."""

    @pytest.fixture
    def answer_of(self, client: Client) -> Callable[[str, str], Answer]:
        answers = client.segment(encoded(), formats=["coco"]).answers
        return lambda name, version: Answer(200, answers[name], {"X-Model-Version": version})

    def test_all_formats_are_asked_for_again(self, answer_of: Callable[[str, str], Answer]) -> None:
        answers = [answer_of("png", "old"), answer_of("coco", "new"), answer_of("png", "new"), answer_of("coco", "new")]
        with answering(*answers) as server, Client(server.url) as client:
            np.testing.assert_array_equal(client.segment(encoded(), formats=["coco"]).mask, MASK)
        assert len(server.paths) == 4

    def test_but_not_for_ever(self, answer_of: Callable[[str, str], Answer]) -> None:
        answers = [answer_of(name, version) for _ in range(5) for name, version in (("png", "old"), ("coco", "new"))]
        unsure = pytest.raises(NoAnswerError, match="the model changed between")
        with answering(*answers) as server, Client(server.url, retries=1) as client, unsure:
            client.segment(encoded(), formats=["coco"])
        assert len(server.paths) == 4


def test_a_service_behind_https_that_is_none_is_told(url: str) -> None:
    with Client(url.replace("http:", "https:"), retries=0) as client, pytest.raises(NoAnswerError, match="SSL"):
        client.models()
