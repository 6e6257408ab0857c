import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.service.http.colour_photos import encoded
from tests.service.http.problems import assert_problem
from tests.service.serving import serving
from tests.tagmask.bundles import FIRST, SECOND, make_store
from tests.training.colour_bundle import write_colour_bundle

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
    assert first.json() == {"id": first.json()["id"], "tags": ["cat", "dog"], "created": True}
    kept = files(tmp_path / "inbox")
    assert PHOTO in kept

    again = client.post("/v1/samples?tags=bird", content=PHOTO, headers={"Content-Type": "image/png"})
    assert again.status_code == 200
    assert again.json() == {"id": first.json()["id"], "tags": ["bird", "cat", "dog"], "created": False}
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
