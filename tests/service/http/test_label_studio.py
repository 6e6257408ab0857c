"""What Label Studio 1.23 sent and what it made of the answers; `label_studio_exchange.json` is a record of it."""

import base64
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.http.label_studio.endpoints import OPERATIONS
from service.http.label_studio.interface import read_interface
from service.http.label_studio.request import Event
from service.http.label_studio.storage import read_photo
from service.http.request_body import read_json
from tagmask.errors import NotFound, RequestError, TooLarge, Unprocessable
from tagmask.formats.label_studio import brush_rle
from tagmask.masks import VOID
from tagmask.segmenter import Segmenter
from tests.service.http.colour_photos import CAT, DOG, MASK, decoded, encoded, picture
from tests.service.http.problems import assert_problem, read_problem
from tests.service.http.sockets import connect, post
from tests.service.serving import serving
from training.datasets import load

EXCHANGE: dict[str, Any] = json.loads(
    (Path(__file__).parent / "label_studio_exchange.json").read_text(encoding="utf-8")
)
"""Bodies of requests, by what had happened in Label Studio. The photos of its four tasks are an upload, a local file, a
data URI, and elsewhere."""

PHOTO = encoded()
KEY = "the key of label studio"
VERSION = "0123456789ab"
CLASSES = ("background", "cat", "dog")
Decode = Callable[[list[int]], Any]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Label Studio's folder, with the photos of the record; outside of it is one that nobody may see."""
    folder = tmp_path_factory.mktemp("label studio")
    (folder / "secret.png").write_bytes(PHOTO)
    root = folder / "files"
    for name in ("upload/1/f1f07d0b-first_photo.png", "photos/1/second ö+&.png"):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_bytes(PHOTO)
    (root / "link.png").symlink_to(folder / "secret.png")
    (root / "folder").symlink_to(folder)
    (root / "circle").symlink_to("circle")
    return root


@pytest.fixture(scope="module")
def client(colour_bundle: Path, files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    limits: dict[str, Any] = {"max_body_bytes": 100_000, "max_pixels": 10_000, "log_level": "error"}
    inbox = tmp_path_factory.mktemp("inbox")
    with serving(model=colour_bundle, label_studio_files=files, inbox=inbox, **limits) as client:
        yield client


def inline(photo: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(photo).decode()}"


def interface(labels: str = '<Label value="cat"/><Label value="dog"/>') -> str:
    brush = f'<BrushLabels name="what" toName="photo">{labels}</BrushLabels>'
    return f'<View><Image name="photo" value="$image"/>{brush}</View>'


def predict(client: httpx.Client, *images: Any, config: str | None = None) -> httpx.Response:
    tasks = [{"id": number, "data": {"image": image}} for number, image in enumerate(images)]
    return client.post("/predict", json={"tasks": tasks, "label_config": config or interface(), "project": "1.2"})


def painted(result: list[dict[str, Any]], decode_rle: Decode) -> dict[str, Any]:
    """Where each label of a prediction is: (H, W) bool."""
    return {
        each["value"]["brushlabels"][0]: decode_rle(each["value"]["rle"]).reshape(
            each["original_height"], each["original_width"], 4
        )[..., 3]
        == 255
        for each in result
    }


def slow_down(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    real = Segmenter.run
    monkeypatch.setattr(Segmenter, "run", lambda *order: (time.sleep(seconds), real(*order))[1])


class TestPredict:
    def test_a_project_connects(self, client: httpx.Client) -> None:
        assert client.get("/health").json()["status"] == "UP"
        assert client.post("/setup", json=EXCHANGE["setup"]).json() == {"model_version": VERSION}

    def test_brushes_paint_the_mask(self, client: httpx.Client, decode_rle: Decode) -> None:
        answer = client.post("/predict", json=EXCHANGE["predict"])
        assert answer.status_code == 200
        assert answer.json()["model_version"] == VERSION
        mask = decoded(client.post("/v1/segment", files={"image": PHOTO}).content)
        results = answer.json()["results"]
        assert len(results) == 4
        for prediction in results[:3]:
            assert prediction["model_version"] == VERSION
            assert prediction["score"] > 0.9
            assert {(each["from_name"], each["to_name"]) for each in prediction["result"]} == {("what", "photo")}
            where = painted(prediction["result"], decode_rle)
            assert set(where) == {"Cat", "Dog"}
            np.testing.assert_array_equal(where["Cat"], mask == CAT)
            np.testing.assert_array_equal(where["Dog"], mask == DOG)

    def test_predictions_match_the_sdk(self, client: httpx.Client) -> None:
        types = pytest.importorskip("label_studio_sdk.types", exc_type=ImportError)
        results = client.post("/predict", json=EXCHANGE["predict"]).json()["results"]
        for task, prediction in zip(EXCHANGE["predict"]["tasks"][:3], results[:3], strict=True):
            read = types.PredictionRequest.model_validate({"task": task["id"], **prediction})
            assert set(prediction) <= set(types.PredictionRequest.model_fields)
            assert len(read.result) == 2

    def test_a_failed_task_has_an_error_and_no_result(self, client: httpx.Client) -> None:
        """Label Studio keeps whatever has a `result` as a prediction, and does not ask for that task again."""
        (failed,) = client.post("/predict", json=EXCHANGE["predict"]).json()["results"][3:]
        assert list(failed) == ["error"]
        assert failed["error"]["code"] == "url_not_fetched"
        assert "https://example.com/fourth.png" in failed["error"]["message"]
        assert "uploads or local files" in failed["error"]["message"]

    def test_no_url_is_fetched(self, client: httpx.Client) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(0.3)
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/data/upload/1/f1f07d0b-first_photo.png"
            results = predict(client, url, url.replace("/data", "/other"), url.replace("http", "s3")).json()["results"]
            with pytest.raises(TimeoutError):
                listener.accept()
        assert "result" in results[0]  # Label Studio's own address may stand in front of its paths
        assert results[1]["error"]["code"] == "url_not_fetched"

    @pytest.mark.parametrize(
        ("image", "code"),
        [
            (None, "bad_task"),
            (["/data/upload/1/a.png"], "bad_task"),
            ("data:image/png;base64,???", "bad_task"),
            ("", "url_not_fetched"),
            ("data:image/png,abc", "url_not_fetched"),
            ("s3://bucket/a.png", "url_not_fetched"),
            ("/tasks/1/resolve/?fileuri=czM6Ly9h", "url_not_fetched"),
            ("//[/data/upload/x", "url_not_fetched"),
            ("/data/local-files/?x=y", "url_not_fetched"),
            ("/data/upload/1/absent.png", "no_such_file"),
            ("/data/upload/1", "no_such_file"),
            (inline(b"text"), "not_an_image"),
            (inline(PHOTO[:100]), "truncated_image"),
            (inline(b""), "empty_image"),
        ],
    )
    def test_invalid_photos(self, client: httpx.Client, image: Any, code: str) -> None:
        results = predict(client, image, inline(PHOTO)).json()["results"]
        assert results[0]["error"]["code"] == code
        assert len(results[1]["result"]) == 2

    @pytest.mark.parametrize("source", ["data:a/b" + ";a=" * 5_000_000, "/data/upload/" + "%41" * 5_000_000])
    def test_a_long_address_is_refused_unread(self, files: Path, source: str) -> None:
        """A regular expression or a decoder of percent signs would take a gigabyte."""
        with pytest.raises(Unprocessable) as refusal:
            read_photo(source, files, 100_000)
        assert refusal.value.code == "url_not_fetched"

    def test_files_are_off_unless_configured(self, colour_bundle: Path) -> None:
        with serving(model=colour_bundle) as client:
            results = predict(client, "/data/upload/1/a.png", inline(PHOTO)).json()["results"]
        assert results[0]["error"]["code"] == "label_studio_files_off"
        assert "TAGMASK_LABEL_STUDIO_FILES" in results[0]["error"]["message"]
        assert "result" in results[1]

    @pytest.mark.parametrize(
        ("labels", "expected"),
        [
            ('<Label value="CAT"/><Label value="dog "/>', {"CAT", "dog "}),
            ('<Label value="A feline" alias="cat"/>', {"cat"}),
            ('<Label value="Dog"/><Label value="zebra"/>', {"Dog"}),
            ('<Label value="Cat"/><Label value="cat"/>', {"Cat"}),
            ("", {"cat", "dog"}),  # labels that come with each task
        ],
    )
    def test_labels_are_those_of_the_interface(
        self, client: httpx.Client, decode_rle: Decode, labels: str, expected: set[str]
    ) -> None:
        (prediction,) = predict(client, inline(PHOTO), config=interface(labels)).json()["results"]
        where = painted(prediction["result"], decode_rle)
        assert set(where) == expected
        for label, pixels in where.items():
            np.testing.assert_array_equal(pixels, CLASSES.index(label.strip().casefold()) == MASK)

    def test_limits(self, client: httpx.Client) -> None:
        large, body = inline(encoded(picture().resize((101, 100)))), inline(bytes(100_000))
        results = predict(client, large, inline(PHOTO)).json()["results"]
        assert (results[0]["error"]["code"], results[0]["error"]["limit"]) == ("too_many_pixels", 10_000)
        assert "result" in results[1]
        error = assert_problem(predict(client, body), 413, "too_many_bytes", limit=100_000)
        assert "fewer tasks" in error["message"]

    def test_a_large_file_is_not_read(self, files: Path) -> None:
        (files / "large.png").write_bytes(PHOTO + bytes(1000))
        with pytest.raises(RequestError) as refusal:
            read_photo("/data/local-files/?d=large.png", files, max_bytes=len(PHOTO) + 999)
        assert refusal.value.code == "too_many_bytes"
        assert len(read_photo("/data/local-files/?d=large.png", files, max_bytes=len(PHOTO) + 1000)) > 1000

    def test_late_tasks_are_reported_and_the_others_answered(
        self, colour_bundle: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        slow_down(monkeypatch, 0.1)
        with serving(model=colour_bundle, max_seconds=0.45, max_concurrent=1) as client:
            results = predict(client, *[inline(PHOTO)] * 9).json()["results"]
        answered = ["result" in each for each in results]
        assert 1 <= sum(answered) <= 4
        assert answered == sorted(answered, reverse=True)
        assert {each["error"]["code"] for each in results if "error" in each} == {"timed_out"}

    def test_other_requests_take_turns_with_the_tasks_of_a_request(
        self, colour_bundle: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        slow_down(monkeypatch, 0.05)
        with serving(model=colour_bundle, max_concurrent=1, max_queued=4) as client:
            done: list[str] = []

            def ask() -> None:
                predict(client, *[inline(PHOTO)] * 20)
                done.append("tasks")

            thread = threading.Thread(target=ask)
            thread.start()
            time.sleep(0.3)
            assert client.post("/v1/segment", files={"image": PHOTO}).status_code == 200
            done.append("photo")
            thread.join()
        assert done == ["photo", "tasks"]

    def test_requests_beyond_the_limit_are_refused(self, colour_bundle: Path) -> None:
        head = post("/predict", Content_Length="10", Expect="100-continue")
        with serving(model=colour_bundle, max_concurrent=1, max_queued=0) as client, connect(client) as waiting:
            waiting.sendall(head)
            assert waiting.recv(100).startswith(b"HTTP/1.1 100 ")
            for path in ("/predict", "/setup", "/webhook"):
                assert_problem(client.post(path, json={}), 503, "overloaded", limit=1)

    @pytest.mark.parametrize(
        ("body", "status", "code"),
        [
            (b"", 400, "bad_json"),
            (b"[" * 10_000, 400, "bad_json"),
            (b'"\\ud800"', 400, "bad_json"),
            (b"[]", 422, "bad_field"),
            (b"{}", 422, "bad_field"),
            (b'{"tasks": [{}], "label_config": "", "schema": "", "action": 1}', 422, "bad_field"),
        ],
    )
    def test_broken_bodies(self, client: httpx.Client, body: bytes, status: int, code: str) -> None:
        for path in ("/predict", "/webhook"):
            answer = client.post(path, content=body, headers={"Content-Type": "application/json"})
            assert (answer.status_code, read_problem(answer)["code"]) == (status, code)


class TestInterface:
    @pytest.mark.parametrize(
        ("config", "message"),
        [
            ("", "broken XML"),
            ("<View>", "broken XML"),
            ("<View>&x;</View>", "broken XML"),
            ("\0", "broken XML"),
            ("<View></View>", "no Image with BrushLabels or Choices"),
            ('<View><BrushLabels name="a" toName="b"/></View>', "no Image"),
            ('<View><Image name="b" value="$i"/></View>', "no Image"),
            ('<View><Image name="b" value="x.png"/><BrushLabels name="a" toName="b"/></View>', 'value="$image"'),
            ('<View><Image name="b" valueList="$i"/><Choices name="a" toName="b"/></View>', 'value="$image"'),
            ('<!DOCTYPE x [<!ENTITY a "aaaa">]><View>&a;</View>', "DOCTYPE"),
            ('<!DOCTYPE x SYSTEM "file:///etc/passwd"><View/>', "DOCTYPE"),
        ],
    )
    def test_unusable_interfaces_are_refused(self, client: httpx.Client, config: str, message: str) -> None:
        with pytest.raises(Unprocessable) as refusal:
            read_interface(config)
        assert message in refusal.value.message
        for answer in (client.post("/setup", json={"schema": config}), predict(client, config=config or " ")):
            assert_problem(answer, 422, "bad_label_config", "label_config")

    def test_a_billion_laughs_cost_nothing(self) -> None:
        entities = "".join(f'<!ENTITY e{n + 1} "{f"&e{n};" * 10}">' for n in range(12))
        with pytest.raises(Unprocessable, match="DOCTYPE"):
            read_interface(f'<!DOCTYPE x [<!ENTITY e0 "ha">{entities}]><View>&e12;</View>')

    def test_unknown_labels_are_reported(self, client: httpx.Client) -> None:
        config = interface('<Label value="zebra"/><Label value="Background"/>')
        assert client.post("/setup", json={"schema": config}).status_code == 200  # its photos can be learned from
        error = assert_problem(predict(client, "", config=config), 422, "bad_label_config", "label_config")
        assert "the classes are cat, dog" in error["message"]

    def test_choices_alone_show_no_masks(self, client: httpx.Client) -> None:
        config = EXCHANGE["choices_made"]["project"]["label_config"]
        assert client.post("/setup", json={"schema": config}).status_code == 200
        error = assert_problem(predict(client, "", config=config), 422, "bad_label_config", "label_config")
        assert "BrushLabels" in error["message"]

    def test_the_image_of_the_brush_is_used(self) -> None:
        config = """<View>
            <Header value="Paint"/><Image name="left" value="$a"/><Image name="right" value="$b"/>
            <Choices name="good" toName="left"><Choice value="yes"/></Choices>
            <RectangleLabels name="boxes" toName="left"><Label value="x"/></RectangleLabels>
            <brushlabels name="brush" toname="right"><label value="cat"/></brushlabels></View>"""
        read = read_interface(config)
        assert (read.image, read.data_field) == ("right", "b")
        assert read.brush(CLASSES).labels == {"cat": "cat"}


class TestFiles:
    @pytest.mark.parametrize(
        "path",
        ["../secret.png", "/{outside}/secret.png", "link.png", "folder/secret.png", "photos/../../secret.png", "circle",
         "photos/1/second ö+&.png\0", "a" * 5000, "", ".", "photos", "~/secret.png", "\udcff"],
    )  # fmt: skip
    def test_nothing_outside_the_folder_is_read(self, files: Path, path: str) -> None:
        path = path.format(outside=files.parent)
        for source in (f"/data/local-files/?d={quote(path, errors='surrogatepass')}", f"/data/upload/../{path}"):
            with pytest.raises(RequestError) as refusal:
                read_photo(source, files, 10**6)
            assert refusal.value.code in ("no_such_file", "url_not_fetched")
            assert str(files.parent) not in refusal.value.message.replace(path, "")

    @settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        way=st.lists(
            st.sampled_from(["..", ".", "", "files", "upload", "folder", "circle"]) | st.text(max_size=3), max_size=3
        ),
        end=st.sampled_from(["secret.png", "link.png", "../secret.png", "folder/secret.png"]),
        upload=st.booleans(),
    )
    def test_no_path_leads_outside_the_folder(self, files: Path, way: list[str], end: str, upload: bool) -> None:
        path = quote("/".join([*way, end]), errors="surrogatepass")
        source = f"/data/upload/{path}" if upload else f"/data/local-files/?d={path}"
        with pytest.raises((NotFound, Unprocessable)):
            read_photo(source, files, 10**6)

    def test_a_missing_folder_is_reported(self, files: Path) -> None:
        with pytest.raises(NotFound, match="TAGMASK_LABEL_STUDIO_FILES"):
            read_photo("/data/upload/1/a.png", files / "gone", 10**6)


class TestWebhook:
    @pytest.fixture
    def client(self, colour_bundle: Path, files: Path, tmp_path: Path) -> Iterator[httpx.Client]:
        settings: dict[str, Any] = {"inbox": tmp_path, "label_studio_files": files, "log_level": "error"}
        with serving(model=colour_bundle, **settings) as client:
            yield client

    def test_annotated_photos_are_stored_with_their_tags(self, client: httpx.Client, tmp_path: Path) -> None:
        first = client.post("/webhook", json=EXCHANGE["annotation_created"])
        assert first.status_code == 201
        assert first.json()["tags"] == ["cat", "dog"]
        again = client.post("/webhook", json=EXCHANGE["annotation_updated"])
        assert again.status_code == 200
        assert again.json() == {**first.json(), "tags": ["Polar_bear"], "created": False}
        (kept,) = tmp_path.rglob("*.png")
        assert kept.read_bytes() == PHOTO
        assert self.tags(tmp_path) == [["Polar_bear"]]

    def tags(self, inbox: Path) -> list[list[str]]:
        """The tags of each sample."""
        return sorted(json.loads(path.read_bytes())["tags"] for path in inbox.glob("[!.]*/*.json"))

    def test_states_that_come_late_are_ignored(self, client: httpx.Client, tmp_path: Path) -> None:
        for event in ("annotation_updated", "annotation_created", "annotation_updated"):
            client.post("/webhook", json=EXCHANGE[event])
            assert self.tags(tmp_path) == [["Polar_bear"]]
        deleted = {"action": "ANNOTATIONS_DELETED", "annotations": [{"id": 1}], "project": self.PROJECT}
        for event in (deleted, EXCHANGE["annotation_updated"], deleted):
            answer = client.post("/webhook", json=event)
            assert answer.status_code == 200
            assert self.tags(tmp_path) == [[]]
        assert answer.json()["samples"][0]["tags"] == []

    PROJECT = EXCHANGE["annotation_created"]["project"]

    @pytest.mark.parametrize(
        "correction",
        [
            {"action": "ANNOTATIONS_DELETED", "annotations": [{"id": 1}], "project": PROJECT},
            {"action": "ANNOTATION_DELETED", "annotation": {"id": 1}, "project": {"id": 1}},
            {"action": "TASKS_DELETED", "tasks": [{"id": 7}, {"id": 1}], "project": PROJECT},
            {"action": "TASKS_DELETED", "tasks": [{"id": 1}]},  # of all tasks of a project by the API
            {**EXCHANGE["annotation_updated"], "annotation": {"id": 1, "result": []}},
            {
                **EXCHANGE["annotation_updated"],
                "annotation": {**EXCHANGE["annotation_updated"]["annotation"], "was_cancelled": True},
            },
        ],
        ids=lambda event: event["action"],
    )
    def test_what_one_annotator_takes_back_another_may_keep(
        self, client: httpx.Client, tmp_path: Path, correction: dict[str, Any]
    ) -> None:
        one = EXCHANGE["annotation_created"]
        other = {**one["annotation"], "id": 2, "result": one["annotation"]["result"][1:]}
        for annotation in (one["annotation"], other):
            client.post("/webhook", json={**one, "annotation": annotation})
        assert self.tags(tmp_path) == [["cat", "dog"]]
        assert client.post("/webhook", json=correction).status_code == 200
        assert self.tags(tmp_path) == [[] if correction["action"] == "TASKS_DELETED" else ["dog"]]

    def test_annotations_created_at_once(self, client: httpx.Client, tmp_path: Path) -> None:
        """Those made of predictions are stored when a person has updated them."""
        event = EXCHANGE["annotations_of_predictions"]
        (made,), (task,) = event["annotation"][:1], event["task"][:1]
        drawn = {**made, "id": 77, "parent_prediction": None}
        lost = {"id": 78, "task": 9, "result": made["result"]}
        tasks = [task, task, {"id": 9, "data": {"image": "/data/upload/1/absent.png"}}]
        answer = client.post("/webhook", json={**event, "annotation": [made, drawn, lost], "task": tasks})
        stored, failed = answer.json()["samples"]
        assert (stored["tags"], failed["error"]["code"]) == (["cat", "dog"], "no_such_file")
        assert (
            client.post("/webhook", json={**event, "annotation": [made], "task": [task]}).json()["status"] == "ignored"
        )

    def test_ids_of_another_label_studio_are_other_ids(self, client: httpx.Client, tmp_path: Path) -> None:
        event = EXCHANGE["annotation_created"]
        client.post("/webhook", json=event)
        project = {**self.PROJECT, "created_at": "2026-11-24T04:15:41.057197Z"}
        client.post("/webhook", json={"action": "ANNOTATIONS_DELETED", "annotations": [{"id": 1}], "project": project})
        assert self.tags(tmp_path) == [["cat", "dog"]]

    def test_choices_are_tags_where_there_are_no_brushes(self, client: httpx.Client, files: Path) -> None:
        event = EXCHANGE["choices_made"]
        (files / event["task"]["data"]["image"].removeprefix("/data/")).parent.mkdir(parents=True, exist_ok=True)
        (files / event["task"]["data"]["image"].removeprefix("/data/")).write_bytes(PHOTO)
        assert client.post("/webhook", json=event).json()["tags"] == ["Polar_bear", "cat"]
        nested = {**event["annotation"]["result"][0], "value": {"choices": [["animal", "owl"]]}}
        event = {**event, "annotation": {**event["annotation"], "id": 77, "result": [nested]}}
        assert "owl" in client.post("/webhook", json=event).json()["tags"]

    def test_masks_that_a_person_changed_are_corrections(self, client: httpx.Client, tmp_path: Path) -> None:
        event, mask = EXCHANGE["annotation_created"], np.where(MASK == CAT, CAT, VOID)
        first, second = event["annotation"]["result"]
        assert not client.post("/webhook", json=event).json()["corrected"]
        redrawn = {**second, "value": {**second["value"], "rle": brush_rle((MASK == CAT).view(np.uint8)).tolist()}}
        event = {**event, "annotation": {**event["annotation"], "result": [first, redrawn]}}
        assert client.post("/webhook", json=event).json()["corrected"]
        (photo,) = load(tmp_path, corrections=tmp_path).photos
        assert photo.correction
        np.testing.assert_array_equal(photo.correction.labels(["dog", "cat"]), mask)
        assert photo.correction.complete == ("dog",)
        deleted = {"action": "ANNOTATIONS_DELETED", "annotations": [{"id": 1}], "project": self.PROJECT}
        assert [each["corrected"] for each in client.post("/webhook", json=deleted).json()["samples"]] == [False]
        assert not list(tmp_path.rglob("*.correction.png"))

    def test_masks_accepted_as_predicted_are_corrections_where_the_setting_says_so(
        self, colour_bundle: Path, files: Path, tmp_path: Path
    ) -> None:
        settings: dict[str, Any] = {"inbox": tmp_path, "label_studio_files": files, "label_studio_accepted": True}
        with serving(model=colour_bundle, **settings) as client:
            assert client.post("/webhook", json=EXCHANGE["annotation_created"]).json()["corrected"]
        (photo,) = load(tmp_path, corrections=tmp_path).photos
        assert photo.correction
        np.testing.assert_array_equal(photo.correction.labels(["cat", "dog"]), np.where(MASK, MASK, VOID))

    def test_shapes_of_all_kinds_give_tags_and_corrections(self, client: httpx.Client, tmp_path: Path) -> None:
        config = """<View><Image name="photo" value="$image"/>
            <RectangleLabels name="box" toName="photo"/><PolygonLabels name="outline" toName="photo"/>
            <KeyPointLabels name="point" toName="photo"/><Choices name="good" toName="photo"/></View>"""
        values: dict[str, dict[str, Any]] = {
            "rectanglelabels": {"x": 0, "y": 0, "width": 25, "height": 50, "rectanglelabels": ["dog"]},
            "polygonlabels": {"points": [[50, 50], [99, 50], [99, 99], [50, 99]], "polygonlabels": ["cat"]},
            "keypointlabels": {"x": 50, "y": 10, "width": 1, "keypointlabels": ["bird"]},
        }
        names = {"rectanglelabels": "box", "polygonlabels": "outline", "keypointlabels": "point"}
        results = [{"type": kind, "from_name": names[kind], "value": value} for kind, value in values.items()]
        choice = {"type": "choices", "from_name": "good", "value": {"choices": ["yes"]}}
        answer = self.annotate(client, inline(PHOTO), *results, choice, config=config).json()
        assert (answer["tags"], answer["corrected"]) == (["bird", "cat", "dog"], True)
        (photo,) = load(tmp_path, corrections=tmp_path).photos
        assert photo.correction
        assert (photo.correction.shown, photo.correction.complete) == (("cat", "bird"), ("cat",))

    def test_a_mask_that_cannot_be_used_leaves_the_tags(
        self, client: httpx.Client, caplog: pytest.LogCaptureFixture
    ) -> None:
        broken = {"type": "brushlabels", "from_name": "what", "value": {"rle": [1, 2], "brushlabels": ["cat"]}}
        with caplog.at_level("WARNING", "tagmask.label_studio"):
            answer = self.annotate(client, inline(PHOTO), broken).json()
        assert (answer["tags"], answer["corrected"]) == (["cat"], False)
        assert [record.__dict__["code"] for record in caplog.records] == ["bad_correction"]

    @pytest.mark.parametrize("event", ["tasks_created", "task_skipped", "annotations_of_predictions", "start_training"])
    def test_other_events_are_ignored(self, client: httpx.Client, tmp_path: Path, event: str) -> None:
        answer = client.post("/webhook", json=EXCHANGE[event])
        assert (answer.status_code, answer.json()["status"]) == (200, "ignored")
        assert not list(tmp_path.iterdir())

    def annotate(self, client: httpx.Client, image: str, *results: Any, config: str | None = None) -> httpx.Response:
        event = {
            "action": "ANNOTATION_CREATED",
            "annotation": {"result": list(results)},
            "task": {"data": {"image": image}},
            "project": {"label_config": config or interface()},
        }
        return client.post("/webhook", json=event)

    def test_only_the_controls_of_the_photo_give_tags(self, client: httpx.Client) -> None:
        def result(name: str, kind: str, *labels: Any) -> dict[str, Any]:
            return {"from_name": name, "value": {kind: list(labels)}}

        other = [
            result("quality", "choices", "good"), result("what", "choices", "bad"), {"from_name": "what"},
            {"from_name": "what", "value": {"brushlabels": "dog"}},
            result("what", "brushlabels", 1, None),
        ]  # fmt: skip
        assert self.annotate(client, inline(PHOTO), *other).json()["status"] == "ignored"
        answer = self.annotate(client, inline(PHOTO), result("what", "brushlabels", "CAT", "a  new one"), *other)
        assert answer.json()["tags"] == ["a_new_one", "cat"]

    def test_an_annotation_that_is_submitted_empty_says_that_the_photo_shows_nothing(
        self, client: httpx.Client
    ) -> None:
        assert self.annotate(client, inline(PHOTO)).json()["tags"] == ["background"]
        painted = {"from_name": "what", "value": {"brushlabels": ["Background"]}}
        assert self.annotate(client, inline(PHOTO), painted).json()["tags"] == ["background"]

    @pytest.mark.parametrize(
        ("image", "label", "status", "code"),
        [
            (inline(PHOTO), "x" * 65, 422, "bad_tags"),
            (inline(PHOTO), "cat, dog", 422, "bad_tags"),
            (inline(b"text"), "cat", 422, "not_an_image"),
            ("http://localhost/a.png", "cat", 422, "url_not_fetched"),
            ("/data/upload/1/absent.png", "cat", 404, "no_such_file"),
        ],
    )
    def test_errors_leave_nothing_behind(
        self, client: httpx.Client, tmp_path: Path, image: str, label: str, status: int, code: str
    ) -> None:
        answer = self.annotate(client, image, {"from_name": "what", "value": {"brushlabels": [label]}})
        assert (answer.status_code, read_problem(answer)["code"]) == (status, code)
        assert not list(tmp_path.iterdir())

    def test_samples_are_off_unless_configured(self, colour_bundle: Path) -> None:
        with serving(model=colour_bundle) as client:
            assert_problem(client.post("/webhook", json=EXCHANGE["annotation_created"]), 404, "samples_off")
            assert client.post("/webhook", json=EXCHANGE["tasks_created"]).status_code == 200


def test_many_results_of_many_controls() -> None:
    """The time is that of their sum, not of their product."""
    choices = "".join(f'<Choices name="c{index}" toName="photo"/>' for index in range(20_000))
    read = read_interface(f'<View><Image name="photo" value="$image"/>{choices}</View>')
    results = [{"from_name": f"c{index}", "value": {"choices": ["cat"]}} for index in range(100_000)]
    assert read.tags(results, CLASSES) == ("cat",)


@pytest.mark.parametrize("unit", [b"[[0]],", b"0,", b'{"a":0},', b'"a",', b"[],"])
def test_json_of_too_many_values_is_refused_before_it_is_parsed(unit: bytes) -> None:
    with pytest.raises(TooLarge, match="more than 1,000,000 commas and brackets") as refusal:
        read_json(Event, b'{"action": "", "x": [' + unit * 1_000_001 + b"0]}")
    assert refusal.value.code == "too_many_values"
    count = 900_000 // len(unit)
    assert read_json(Event, b'{"action": "a", "x": [' + unit * count + b"0]}").action == "a"


def test_every_endpoint_needs_a_key_which_may_be_a_password(colour_bundle: Path) -> None:
    with serving(model=colour_bundle, api_keys=KEY, log_level="error") as client:
        for each in OPERATIONS:
            assert_problem(client.request(each.method, each.path), 401, "key_missing")
            wrong_key = ("label-studio", KEY + "x")
            assert_problem(client.request(each.method, each.path, auth=wrong_key), 401, "key_unknown")
        for user in ("", "label-studio"):
            assert client.get("/health", auth=(user, KEY)).status_code == 200
            answer = client.post("/setup", json=EXCHANGE["setup"], auth=(user, KEY))
            assert answer.json() == {"model_version": VERSION}


def test_the_log_has_what_label_studio_does_not_show(client: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", "tagmask.label_studio"):
        predict(client, "https://example.com/a.png")
        predict(client, config="<View/>")
    assert [record.__dict__["code"] for record in caplog.records] == ["url_not_fetched", "bad_label_config"]
    assert "https://example.com/a.png" in caplog.records[0].__dict__["reason"]
