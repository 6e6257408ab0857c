import json
import re
from base64 import b64decode
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import cvat_sdk.masks
import httpx
import numpy as np
import pytest
import shapely
from PIL import Image
from pycocotools import mask as coco_rle

from tagmask.formats import FORMATS
from tests.service.http.colour_photos import BACKGROUND, CAT, DOG, MASK, Mask, decoded, encoded, only, picture
from tests.service.http.problems import assert_problem, read_problem
from tests.service.serving import serving
from tests.tagmask import bad_bundles
from tests.tagmask.bad_bundles import write_bad_bundle
from tests.training.colour_bundle import COLOURS

VERSION = "0123456789ab"
CLASSES = list(COLOURS)
EXIF_ORIENTATION = 0x0112
PNG_PHOTO = encoded()


@pytest.fixture(scope="module")
def client(colour_bundle: Path) -> Iterator[httpx.Client]:
    with serving(model=colour_bundle, max_files=4, max_body_bytes=50_000, max_pixels=20_000) as client:
        yield client


def segment(client: httpx.Client, photo: bytes = PNG_PHOTO, **options: Any) -> httpx.Response:
    return client.post("/v1/segment", files={"image": ("photo", photo)}, data=options)


def test_a_mask_is_what_the_colours_say(client: httpx.Client) -> None:
    answer = segment(client)
    assert answer.status_code == 200
    np.testing.assert_array_equal(decoded(answer.content), MASK)
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.headers["X-Model-Version"] == VERSION
    assert answer.headers["Vary"] == "Accept"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Request-ID"])


@pytest.mark.parametrize("scale", [3, 7])
def test_a_photo_above_the_working_size_gets_a_mask_of_its_own_size(client: httpx.Client, scale: int) -> None:
    mask = np.kron(MASK[::4, ::4], np.ones((scale, scale), dtype=np.uint8)).astype(np.uint8)
    answer = segment(client, encoded(picture(mask)))
    found = decoded(answer.content)
    assert found.shape == mask.shape
    assert (found == mask).mean() > 0.95


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (640, 2)])
def test_masks_of_odd_sizes_have_the_size_of_their_photo(client: httpx.Client, size: tuple[int, int]) -> None:
    mask = np.full(size[::-1], CAT, dtype=np.uint8)
    np.testing.assert_array_equal(decoded(segment(client, encoded(picture(mask))).content), mask)


@pytest.mark.parametrize(
    ("media_type", "kind", "options"),
    [
        ("image/jpeg", "JPEG", {}),
        ("image/png", "PNG", {}),
        ("image/webp", "WEBP", {"lossless": True}),
        ("image/avif", "AVIF", {"quality": 100, "subsampling": "4:4:4"}),
        ("image/gif", "GIF", {}),
        ("image/bmp", "BMP", {}),
        ("image/tiff", "TIFF", {}),
        ("IMAGE/PNG; charset=binary", "PNG", {}),
        ("image/whatever", "PNG", {}),
        ("application/octet-stream", "JPEG", {}),
    ],
)
def test_a_raw_body_has_its_options_in_the_query(
    client: httpx.Client, media_type: str, kind: str, options: dict[str, Any]
) -> None:
    photo = encoded(kind=kind, **options)
    query = {"tags": "dog", "format": "png", "refine": "none"}
    answer = client.post("/v1/segment", content=photo, params=query, headers={"Content-Type": media_type})
    assert answer.status_code == 200, answer.text
    np.testing.assert_array_equal(decoded(answer.content), only(DOG))


def test_chunks_are_put_together(client: httpx.Client) -> None:
    pieces = (PNG_PHOTO[at : at + 50] for at in range(0, len(PNG_PHOTO), 50))
    answer = client.post("/v1/segment", content=pieces, headers={"Content-Type": "image/png"})
    np.testing.assert_array_equal(decoded(answer.content), MASK)


@pytest.mark.parametrize(
    ("tags", "labels"),
    [
        (["cat"], (CAT,)),
        (["dog"], (DOG,)),
        (["cat", "dog"], (CAT, DOG)),
        (["dog,cat"], (CAT, DOG)),
        (["  dog , dog,,"], (DOG,)),
        (["dog", "dog"], (DOG,)),
        (["", " ", ","], (CAT, DOG)),
        ([], (CAT, DOG)),
    ],
)
@pytest.mark.parametrize("where", ["form", "query"])
def test_only_background_and_the_tags_appear(
    client: httpx.Client, where: str, tags: list[str], labels: tuple[int, ...]
) -> None:
    place: dict[str, Any] = {"data" if where == "form" else "params": {"tags": tags}}
    answer = client.post("/v1/segment", files={"image": PNG_PHOTO}, **place)
    np.testing.assert_array_equal(decoded(answer.content), only(*labels))


def test_tags_of_query_and_form_add_up(client: httpx.Client) -> None:
    answer = client.post("/v1/segment?tags=cat", files={"image": PNG_PHOTO}, data={"tags": "dog", "format": "json"})
    assert answer.json()["labels"] == CLASSES


@pytest.mark.parametrize("tag", ["bird", "background", "cats", "cat;dog", "a" * 40_000, "\N{CAT FACE}", "\x00"])
def test_an_unknown_tag_is_reported_with_the_known_ones(client: httpx.Client, tag: str) -> None:
    error = assert_problem(segment(client, tags=["cat", tag]), 422, "unknown_tag", "tags", "cat, dog")
    assert VERSION in error["message"]
    assert len(error["message"]) < 300


@pytest.mark.parametrize("where", ["data", "params"])
def test_small_objects_are_found_in_tiles(client: httpx.Client, where: str) -> None:
    mask = np.full((100, 160), BACKGROUND, dtype=np.uint8)
    mask[41, 121] = DOG  # lost in the mean of 2x2 pixels
    files = {"image": encoded(picture(mask))}
    for tile, expected in (("", np.zeros_like(mask)), ("80", mask), ("0", np.zeros_like(mask))):
        answer = client.post("/v1/segment", files=files, **{where: {"tile": tile}})  # type: ignore[arg-type]
        np.testing.assert_array_equal(decoded(answer.content), expected)


def test_tiles_do_not_enlarge_a_photo_beyond_the_limit_of_pixels(client: httpx.Client) -> None:
    answer = segment(client, encoded(Image.new("RGB", (140, 140))), tile=32)
    assert_problem(answer, 413, "tile_too_small", "tile", 20_000)


def test_refine_without_pydensecrf(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.http.options.has_pydensecrf", lambda: False)
    answer = segment(client, refine="crf")
    assert_problem(answer, 422, "bad_refine", "refine")
    assert "DenseCRF, which is not installed; leave refine out" in read_problem(answer)["message"]
    assert segment(client).status_code == 200


def test_crf_keeps_clear_regions(client: httpx.Client) -> None:
    mask = np.full((48, 64), BACKGROUND, dtype=np.uint8)
    mask[8:40, 12:52] = CAT
    answer = segment(client, encoded(picture(mask)), refine="crf", tags="cat")
    assert answer.status_code == 200, answer.text
    found = decoded(answer.content)
    assert found.shape == mask.shape
    assert (found == mask).mean() > 0.99


@pytest.mark.parametrize("refine", ["smooth", "crf"])
def test_refinement_removes_specks(client: httpx.Client, refine: str) -> None:
    between = np.add(COLOURS["background"], COLOURS["cat"]) // 2
    image = Image.new("RGB", (80, 60), tuple(map(int, np.add(between, (3, -3, -1)))))  # nearer to cat
    image.putpixel((30, 20), tuple(map(int, np.add(between, (-1, 1, 0)))))  # hardly nearer to background
    photo = encoded(image)
    expected = np.full((60, 80), CAT, dtype=np.uint8)
    np.testing.assert_array_equal(decoded(segment(client, photo, refine=refine).content), expected)
    expected[20, 30] = BACKGROUND
    np.testing.assert_array_equal(decoded(segment(client, photo, refine="none").content), expected)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_the_eight_orientations_of_a_photo_give_the_same_mask(client: httpx.Client, kind: str) -> None:
    """The pixels are stored as each orientation says they must be turned, from EXIF's own table of rows and columns."""
    stored = {
        1: MASK,
        2: MASK[:, ::-1],
        3: MASK[::-1, ::-1],
        4: MASK[::-1],
        5: MASK.T,
        6: MASK.T[::-1],  # row 0 is the right side as displayed
        7: MASK.T[::-1, ::-1],
        8: MASK.T[:, ::-1],
    }
    for orientation, pixels in stored.items():
        exif = Image.Exif()
        exif[EXIF_ORIENTATION] = orientation
        options = {"lossless": True} if kind == "WEBP" else {}
        photo = encoded(picture(np.ascontiguousarray(pixels)), kind, exif=exif, **options)
        np.testing.assert_array_equal(decoded(segment(client, photo).content), MASK, err_msg=str(orientation))


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("*/*", "image/png"),
        ("", "image/png"),
        ("image/*", "image/png"),
        ("image/png", "image/png"),
        ("IMAGE/PNG", "image/png"),
        ("application/json", "application/json"),
        ("application/*", "application/json"),
        ("application/json;q=0.9, image/png;q=0.1", "application/json"),
        ("application/json;q=0.1, image/png;q=0.9", "image/png"),
        ("image/png;q=0, */*", "application/json"),
        ("application/json;q=0.5, */*;q=0.8", "image/png"),
        ("text/html, application/xhtml+xml, */*;q=0.8", "image/png"),
        ("image/png; q=0.2 , application/json ; Q=0.3", "application/json"),
    ],
)
def test_accept_chooses_between_png_and_json(client: httpx.Client, accept: str, media_type: str) -> None:
    answer = client.post("/v1/segment", files={"image": PNG_PHOTO}, headers={"Accept": accept})
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, media_type)


@pytest.mark.parametrize("accept", ["text/html", "image/jpeg", "*/*;q=0", "image/png;q=x"])
def test_what_accept_excludes_is_406(client: httpx.Client, accept: str) -> None:
    answer = client.post("/v1/segment", files={"image": PNG_PHOTO}, headers={"Accept": accept})
    error = assert_problem(answer, 406, "not_acceptable", "Accept")
    assert accept in error["message"]


@pytest.mark.parametrize(("accept", "name"), [("image/png", "coco"), ("application/json", "overlay")])
def test_format_takes_precedence_over_accept(client: httpx.Client, accept: str, name: str) -> None:
    options, headers = {"format": name}, {"Accept": accept}
    answer = client.post("/v1/segment", files={"image": PNG_PHOTO}, data=options, headers=headers)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, FORMATS[name].media_type)


def test_accept_in_several_lines_is_one_list(client: httpx.Client) -> None:
    headers = [("Accept", "text/html"), ("Accept", "application/json")]
    answer = client.post("/v1/segment", files={"image": PNG_PHOTO}, headers=headers)
    assert answer.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("where", ["form", "query"])
def test_format_chooses_whatever_accept_prefers(client: httpx.Client, name: str, where: str) -> None:
    place: dict[str, Any] = {"data" if where == "form" else "params": {"format": name}}
    answer = client.post("/v1/segment", files={"image": PNG_PHOTO}, headers={"Accept": "text/csv, */*;q=0.1"}, **place)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, FORMATS[name].media_type)


class TestFormatsAgreeWithThePng:
    """Each document is read as its consumer reads it."""

    def test_png_names_its_classes(self, client: httpx.Client) -> None:
        image = Image.open(BytesIO(segment(client, format="png").content))
        image.load()
        assert json.loads(image.info["classes"]) == {"0": "background", "1": "cat", "2": "dog"}
        assert image.info["model"] == VERSION
        assert image.getpalette()[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]  # type: ignore[index]

    def test_confidence(self, client: httpx.Client) -> None:
        image = Image.open(BytesIO(segment(client, format="confidence").content))
        assert (image.mode, image.size) == ("L", (64, 48))
        sure = np.array(image)
        assert sure.min() > 250  # colours are far apart: exp(-2e-3 * 21000) beside 1

    def test_overlay(self, client: httpx.Client) -> None:
        image = Image.open(BytesIO(segment(client, format="overlay").content))
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", (64, 48))
        changed = (np.array(image) != np.array(picture())).any(axis=2)
        assert changed[24, 40]  # in the midst of the dog
        assert not changed[22, 8]  # and of the background

    def test_coco(self, client: httpx.Client) -> None:
        document = segment(client, format="coco").json()
        names = {each["id"]: each["name"] for each in document["categories"]}
        rebuilt = np.zeros_like(MASK)
        for annotation in document["annotations"]:
            where = coco_rle.decode(annotation["segmentation"]).astype(bool)
            assert annotation["area"] == where.sum()
            rebuilt[where] = CLASSES.index(names[annotation["category_id"]])
        np.testing.assert_array_equal(rebuilt, MASK)

    def test_cvat(self, client: httpx.Client) -> None:
        rebuilt = np.zeros_like(MASK)
        for shape in segment(client, format="cvat").json()["shapes"]:
            where = cvat_sdk.masks.decode_mask(shape["points"], image_width=64, image_height=48)
            rebuilt[where] = CLASSES.index(shape["label"])
        np.testing.assert_array_equal(rebuilt, MASK)

    def test_polygons(self, client: httpx.Client) -> None:
        centres = shapely.points(*np.meshgrid(np.arange(64) + 0.5, np.arange(48) + 0.5))
        rebuilt = np.zeros_like(MASK)
        for each in segment(client, format="polygons").json()["polygons"]:
            polygon = shapely.Polygon(each["exterior"], each["holes"])
            assert polygon.is_valid
            assert polygon.area == each["area"]
            rebuilt[shapely.contains(polygon, centres)] = CLASSES.index(each["class"])
        np.testing.assert_array_equal(rebuilt, MASK)

    def test_label_studio(self, client: httpx.Client, decode_rle: Callable[[list[int]], Any]) -> None:
        rebuilt = np.zeros_like(MASK)
        for result in segment(client, format="label-studio").json()["result"]:
            rgba = decode_rle(result["value"]["rle"]).reshape(48, 64, 4)
            rebuilt[rgba[..., 3] > 0] = CLASSES.index(result["value"]["brushlabels"][0])
        np.testing.assert_array_equal(rebuilt, MASK)

    def test_json(self, client: httpx.Client) -> None:
        document = segment(client, format="json").json()
        np.testing.assert_array_equal(decoded(b64decode(document["mask"]["base64"])), MASK)
        assert document["model"]["version"] == VERSION
        assert document["size"] == {"width": 64, "height": 48}
        answer = {each["name"]: each["pixels"] for each in document["classes"]}
        assert answer == {name: int((label == MASK).sum()) for label, name in enumerate(CLASSES)}
        assert all(each["confidence"] > 0.98 for each in document["classes"])


class TestBatch:
    OTHER: Mask = np.ascontiguousarray(MASK.T)

    def batch(self, client: httpx.Client, *photos: bytes, **options: Any) -> httpx.Response:
        files = [("image", (f"{index}.png", photo)) for index, photo in enumerate(photos)]
        return client.post("/v1/segment/batch", files=files, data=options)

    def test_answers_are_in_order(self, client: httpx.Client) -> None:
        masks = [MASK, self.OTHER, MASK[::-1], MASK[:, ::-1]]
        answer = self.batch(client, *(encoded(picture(np.ascontiguousarray(mask))) for mask in masks))
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["X-Model-Version"] == VERSION
        body = answer.json()
        assert (body["model"], body["format"]) == (VERSION, "png")
        for index, (mask, answer) in enumerate(zip(masks, body["answers"], strict=True)):
            result = answer.pop("result")
            assert answer.pop("expected_iou") == pytest.approx(1, abs=1e-2)
            confidence = {"low_confidence": False, "unpainted": []}
            head = {"index": index, "name": f"{index}.png", "status": 200, "media_type": "image/png"}
            assert answer == head | confidence
            np.testing.assert_array_equal(decoded(b64decode(result)), mask)

    def test_a_bad_file_fails_alone(self, client: httpx.Client) -> None:
        photo = encoded(kind="JPEG")
        answer = self.batch(client, PNG_PHOTO, b"not a photo", photo[:-200], b"<svg/>", PNG_PHOTO[:60])
        assert_problem(answer, 413, "too_many_files", "image", 4)

        answer = self.batch(client, b"not a photo", PNG_PHOTO, photo[:400], b"<svg></svg>")
        assert answer.status_code == 200
        answers = answer.json()["answers"]
        assert [each["status"] for each in answers] == [422, 200, 422, 415]
        np.testing.assert_array_equal(decoded(b64decode(answers[1]["result"])), MASK)
        codes = ["not_an_image", None, "truncated_image", "unsupported_image"]
        assert [each.get("error", {}).get("code") for each in answers] == codes
        for each in answers:
            if each["status"] != 200:
                assert list(each) == ["index", "name", "status", "error"]
                assert list(each["error"]) == ["code", "message", "field", "limit", "request_id"]
                assert each["error"]["request_id"] == answer.headers["X-Request-ID"]

    def test_limits_apply_per_photo(self, client: httpx.Client) -> None:
        noise = np.random.default_rng(0).integers(0, 255, (130, 140, 3), dtype=np.uint8)
        heavy = encoded(Image.fromarray(noise), "BMP")
        wide = encoded(picture(np.zeros((150, 140), dtype=np.uint8)))
        assert len(heavy) > 50_000
        answers = self.batch(client, heavy, wide, PNG_PHOTO).json()["answers"]
        assert [each["status"] for each in answers] == [413, 413, 200]
        found = [(each["error"]["code"], each["error"]["limit"]) for each in answers[:2]]
        assert found == [("too_many_bytes", 50_000), ("too_many_pixels", 20_000)]

    @pytest.mark.parametrize("name", FORMATS)
    def test_results_are_those_of_single_requests(self, client: httpx.Client, name: str) -> None:
        options = {"format": name, "tags": "cat"}
        single = segment(client, **options)
        for answer in self.batch(client, PNG_PHOTO, PNG_PHOTO, **options).json()["answers"]:
            assert answer["media_type"] == single.headers["Content-Type"] == FORMATS[name].media_type
            if answer["media_type"] == "application/json":
                assert answer["result"] == single.json()
            else:
                assert b64decode(answer["result"]) == single.content

    def test_it_is_json_whatever_accept_says(self, client: httpx.Client) -> None:
        files = {"image": PNG_PHOTO}
        answer = client.post("/v1/segment/batch", files=files, headers={"Accept": "image/png"})
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")

    def test_a_raw_body_is_a_batch_of_one(self, client: httpx.Client) -> None:
        answer = client.post("/v1/segment/batch", content=PNG_PHOTO, headers={"Content-Type": "image/png"})
        assert [each["status"] for each in answer.json()["answers"]] == [200]

    def test_request_errors_are_the_response(self, client: httpx.Client) -> None:
        assert_problem(self.batch(client), 415, "unsupported_type", "Content-Type")
        assert read_problem(self.batch(client, PNG_PHOTO, format="gif"))["code"] == "bad_format"

    def test_an_unknown_tag_is_reported(self, client: httpx.Client) -> None:
        answers = self.batch(client, PNG_PHOTO, tags="bird").json()["answers"]
        assert [(each["status"], each["error"]["code"]) for each in answers] == [(422, "unknown_tag")]

    def test_file_names_are_returned_as_sent(self, client: httpx.Client) -> None:
        names = ["a b.png", 'quo"te.png', "ölberg 猫.png", "../../etc/passwd"]
        files = [("image", (name, PNG_PHOTO)) for name in names]
        answers = client.post("/v1/segment/batch", files=files).json()["answers"]
        assert [each["name"] for each in answers] == ["a b.png", "quo%22te.png", "ölberg 猫.png", "../../etc/passwd"]


def test_a_network_that_fails_for_a_photo_is_reported_and_logged(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bright = encoded(Image.new("RGB", (9, 9), "white"))
    bundle = write_bad_bundle(tmp_path / "model.onnx", bad_bundles.failing_on_bright())
    with serving(model=bundle) as client:
        assert_problem(segment(client, bright), 500, "model_failed")
        answer = client.post("/v1/segment/batch", files=[("image", bright), ("image", PNG_PHOTO)])
    assert [each["status"] for each in answer.json()["answers"]] == [500, 200]
    logged = [line for line in capfd.readouterr().out.splitlines() if "model_failed" in line]
    assert len(logged) == 2
    assert all("Gather" in line and "request_id" in line for line in logged)


def test_a_network_that_does_not_end_leaves_the_thread(tmp_path: Path) -> None:
    bundle = write_bad_bundle(tmp_path / "model.onnx", bad_bundles.endless_on_bright())
    with serving(model=bundle, max_concurrent=1, max_seconds=1) as client:
        assert_problem(segment(client, encoded(Image.new("RGB", (9, 9), "white"))), 504, "timed_out", limit=1)
        assert segment(client).status_code == 200
