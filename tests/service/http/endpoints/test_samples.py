import hashlib
import json
import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from tagmask import Client
from tagmask.corrections import Correction
from tagmask.files import encode_png
from tagmask.masks import VOID
from tests.service.http.colour_photos import DOG, MASK, encoded
from tests.service.http.problems import assert_problem
from tests.service.serving import serving
from tests.tagmask.bundles import FIRST, SECOND, make_store
from tests.training.colour_bundle import write_colour_bundle
from training.datasets import load

PHOTO = encoded()


@pytest.fixture
def client(colour_bundle: Path, tmp_path: Path) -> Iterator[httpx.Client]:
    with serving(model=colour_bundle, inbox=tmp_path / "inbox") as client:
        yield client


def files(folder: Path) -> set[bytes]:
    return {path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_photo_twice_is_one_sample(client: httpx.Client, tmp_path: Path) -> None:
    first = client.post("/v1/samples", files={"image": ("a.png", PHOTO)}, data={"tags": "dog, cat"})
    assert first.status_code == 201
    assert first.json() == {"id": first.json()["id"], "tags": ["cat", "dog"], "created": True, "corrected": False}
    kept = files(tmp_path / "inbox")
    assert PHOTO in kept

    again = client.post("/v1/samples?tags=bird", content=PHOTO, headers={"Content-Type": "image/png"})
    assert again.status_code == 200
    tags = ["bird", "cat", "dog"]
    assert again.json() == {"id": first.json()["id"], "tags": tags, "created": False, "corrected": False}
    other = client.post("/v1/samples", files={"image": encoded(kind="JPEG")}, data={"tags": "cat"})
    assert other.status_code == 201
    assert other.json()["id"] != first.json()["id"]
    assert sum(content == PHOTO for content in map(Path.read_bytes, (tmp_path / "inbox").rglob("*.png"))) == 1


def test_a_forgotten_sample_is_gone_and_the_models_that_learned_from_it_are_named(tmp_path: Path) -> None:
    store, name = make_store(tmp_path), hashlib.sha256(PHOTO).hexdigest()
    third = write_colour_bundle(tmp_path / "third.onnx", weights_digest="3" * 64, samples=[name])
    store.publish(third)
    with serving(store=store.root, inbox=tmp_path / "inbox") as client:
        path = "/v1/samples/" + client.post("/v1/samples?tags=cat", files={"image": PHOTO}).json()["id"]
        for _ in range(2):
            answer = client.delete(path)
            assert answer.status_code == 200
            assert answer.json() == {"id": name, "models": ["3" * 12], "unknown": [FIRST, SECOND]}
        assert PHOTO not in files(tmp_path / "inbox")
        again = client.post("/v1/samples?tags=cat", files={"image": PHOTO})
        assert_problem(again, 422, "forgotten", field="image")
        assert PHOTO not in files(tmp_path / "inbox")


@pytest.mark.parametrize("name", ["0" * 64, "abc", "%2e%2e"])
def test_a_sample_that_is_not_there_is_not_forgotten(client: httpx.Client, tmp_path: Path, name: str) -> None:
    assert_problem(client.delete(f"/v1/samples/{name}"), 404, "unknown_sample")
    assert files(tmp_path / "inbox") == set()


def test_samples_of_a_model_without_a_store_are_forgotten(client: httpx.Client) -> None:
    name = client.post("/v1/samples?tags=cat", files={"image": PHOTO}).json()["id"]
    assert client.delete(f"/v1/samples/{name}").json() == {"id": name, "models": [], "unknown": []}


@pytest.mark.parametrize(
    ("photo", "tags", "code"),
    [
        (PHOTO, "", "bad_tags"),
        (PHOTO, "polar|bear", "bad_tags"),
        (PHOTO, "x" * 1000, "bad_tags"),
        (PHOTO, "a\nb", "bad_tags"),
        (PHOTO[:100], "cat", "truncated_image"),
        (b"no photo", "cat", "not_an_image"),
    ],
)
def test_errors_leave_nothing_behind(client: httpx.Client, tmp_path: Path, photo: bytes, tags: str, code: str) -> None:
    before = files(tmp_path / "inbox")
    answer = client.post("/v1/samples", files={"image": photo}, data={"tags": tags})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, code)
    assert files(tmp_path / "inbox") == before


def test_a_full_disk_is_507(colour_bundle: Path, tmp_path: Path) -> None:
    with serving(model=colour_bundle, inbox=tmp_path / "inbox", min_free_bytes=2**62) as client:
        answer = client.post("/v1/samples", files={"image": PHOTO}, data={"tags": "cat"})
        assert_problem(answer, 507, "inbox_full", limit=2**62)


def test_samples_are_off_unless_configured(colour_bundle: Path) -> None:
    with serving(model=colour_bundle) as client:
        answer = client.post("/v1/samples", files={"image": PHOTO}, data={"tags": "cat"})
        error = assert_problem(answer, 404, "samples_off")
        assert "TAGMASK_INBOX" in error["message"]


def test_the_log_has_the_cause_that_the_response_does_not_say(
    colour_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(model=colour_bundle, inbox=tmp_path) as client:
        request: dict[str, Any] = {"files": {"image": PHOTO}, "data": {"tags": "cat"}}
        folder = tmp_path / client.post("/v1/samples", **request).json()["id"][:2]
        shutil.rmtree(folder)
        folder.write_text("in the way")
        assert_problem(client.post("/v1/samples", **request), 500, "inbox_unwritable")
    (line,) = (each for each in map(json.loads, capsys.readouterr().out.splitlines()) if each["level"] == "error")
    assert f"File exists: '{folder}'" in line["exc_info"]
    assert line["request_id"]


ROWS = np.where(MASK == DOG, VOID, MASK).astype(np.uint8)
"""What a person says about PHOTO: its cat and its background, and nothing of where the dog is."""


def correction(mask: np.ndarray = ROWS, **texts: str) -> tuple[str, bytes]:
    return "c.png", encode_png(Image.fromarray(mask), texts)


def post(client: httpx.Client, file: tuple[str, bytes] | None, **fields: str) -> httpx.Response:
    files = {"image": ("a.png", PHOTO), **({"correction": file} if file else {})}
    return client.post("/v1/samples", files=files, data={"tags": "dog", **fields})


def test_a_correction_is_kept_with_its_sample_until_a_newer_one_comes(client: httpx.Client, tmp_path: Path) -> None:
    names = "background,cat,dog"
    answer = post(client, correction(), classes=names)
    assert answer.status_code == 201
    assert (answer.json()["tags"], answer.json()["corrected"]) == (["cat", "dog"], True)
    assert kept(tmp_path / "inbox") == Correction.of(ROWS, names.split(","))
    assert post(client, None).json()["corrected"]
    painted = client.post("/v1/segment", files={"image": PHOTO}).content
    mended = {key: text for key, text in PngImageFile(BytesIO(painted)).text.items() if key == "classes"}
    assert post(client, correction(MASK, **mended), complete="cat").json()["corrected"]
    assert kept(tmp_path / "inbox") == Correction.of(MASK, names.split(","), ["cat"])
    assert not post(client, correction(np.full_like(MASK, VOID)), classes=names).json()["corrected"]
    assert kept(tmp_path / "inbox") is None


def kept(inbox: Path) -> Correction | None:
    """What training reads of the only sample."""
    (photo,) = load(inbox, corrections=inbox if list(inbox.glob("*/*.correction.png")) else None).photos
    return photo.correction


def test_the_client_sends_corrections(client: httpx.Client, tmp_path: Path) -> None:
    said = Correction.of(ROWS, ["background", "cat"], ["cat"])
    with Client(str(client.base_url)) as sender:
        assert sender.add_sample(PHOTO, ["dog"], said)["corrected"]
    assert kept(tmp_path / "inbox") == said


def test_a_correction_names_its_classes_each_in_a_field_of_its_own(client: httpx.Client, tmp_path: Path) -> None:
    model = ["background", *(f"class{number:03}" for number in range(254))]
    files = {"image": PHOTO, "correction": encoded(Image.fromarray(np.where(ROWS == 1, 254, ROWS).astype(np.uint8)))}
    answer = client.post("/v1/samples", files=files, data={"tags": "class253", "classes": model})
    assert answer.status_code == 201, answer.text
    assert kept(tmp_path / "inbox").shown == ("class253",)


def test_a_class_that_the_model_does_not_know_is_named_by_a_tag(client: httpx.Client, tmp_path: Path) -> None:
    error = assert_problem(post(client, correction(), classes="background,owl,dog"), 422, *REFUSED)
    assert error["message"].startswith("correction: owl is neither a tag nor a class of the model; add it to the tags")
    assert post(client, correction(), classes="background,owl,dog", tags="dog,owl").json()["tags"] == ["dog", "owl"]


REFUSED = "bad_correction", "correction"


@pytest.mark.parametrize(
    ("file", "fields", "why"),
    [
        (("c.png", b"no PNG"), {}, "not a PNG that can be read"),
        (correction(ROWS[:, 1:]), {}, "63x48 pixels large, and the photo 64x48"),
        (correction(model="0123456789ab"), {}, "a model predicted it"),
        (correction(MASK), {"classes": "background,cat"}, "value 2 has no name; valid are 0 to 1, and 255"),
        (correction(), {"classes": "cat,dog"}, "value 0 is background"),
        (correction(), {"classes": "background,cat,cat"}, "its values must have different names"),
        (correction(), {"classes": ""}, "its values have no names"),
        (correction(), {"complete": "wolf"}, "wolf is neither a tag nor a class of the model"),
        (correction(), {"complete": "dog"}, "it shows no dog, which the photo is tagged with; correct one of the two"),
        (None, {"complete": ""}, "missing, but classes or complete was sent"),
    ],
)
def test_a_correction_that_cannot_be_used_leaves_nothing_behind(
    client: httpx.Client, tmp_path: Path, file: tuple[str, bytes] | None, fields: dict[str, str], why: str
) -> None:
    before = files(tmp_path / "inbox")
    error = assert_problem(post(client, file, **{"classes": "background,cat,dog", **fields}), 422, *REFUSED)
    assert error["message"].startswith(f"correction: {why}")
    assert files(tmp_path / "inbox") == before


def test_one_photo_has_one_correction(client: httpx.Client) -> None:
    twice = [("image", ("a", PHOTO)), ("correction", correction()), ("correction", correction())]
    assert_problem(client.post("/v1/samples?tags=cat", files=twice), 422, "unknown_field", "correction")
    photos = [("image", ("a", PHOTO)), ("image", ("b", PHOTO))]
    error = assert_problem(client.post("/v1/samples?tags=cat", files=photos), 413, "too_many_files", "image", 1)
    assert error["message"] == "at most one photo with 1 other file per request; send several requests"
    alone = client.post("/v1/samples?tags=cat", files=[("correction", correction()), ("correction", correction())])
    error = assert_problem(alone, 422, "unknown_field", "correction")
    assert "two files in file field 'correction'" in error["message"]
    for files in (twice[:2], twice[1:2]):
        assert_problem(client.post("/v1/segment", files=files), 422, "unknown_field", "correction")


def test_a_correction_that_came_as_text(client: httpx.Client) -> None:
    answer = client.post("/v1/samples?tags=cat", files={"image": ("a", PHOTO), "correction": (None, "mended.png")})
    error = assert_problem(answer, 422, "missing_file", "correction")
    assert error["message"].endswith("send a file, such as `curl -F correction=@FILE`")
