import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagmask.errors import DataError
from tagmask.formats.label_studio import brush_rle
from tagmask.masks import Provenance, read_mask, write_mask
from tests.training.datasets import layouts
from tests.training.datasets.masked import CLASSES, expected
from training.datasets import load
from training.datasets.label_studio import TagReview, write_reviews
from training.datasets.photos import TaggedPhotos
from training.datasets.writing import write

Paint = Callable[..., Path]


def tags(data: TaggedPhotos) -> dict[str, tuple[str, ...]]:
    return {photo.id: photo.tags for photo in data.photos}


def task(image: str, *results: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"data": {"image": image}, "annotations": [{"result": list(results), **more}]}


def result(kind: str, *names: str, **value: Any) -> dict[str, Any]:
    return {"type": kind, "from_name": "x", "to_name": "image", "value": {kind: list(names), **value}}


CAT = result("choices", "cat")


def test_choices_and_labels_of_shapes_are_tags(tmp_path: Path, paint: Paint) -> None:
    paint(tmp_path / "images/a.png")
    one = task(
        "/data/upload/7/a.png",
        result("choices", "cat", "polar bear"),
        result("rectanglelabels", "dog", x=1, y=2, width=3, height=4),
        result("brushlabels", "owl", format="rle", rle=[0, 0, 1]),
        result("polygonlabels", "cow", points=[[1, 2]]),
        {"type": "textarea", "value": {"text": ["a note"]}},
        {"type": "relation", "from_id": "a"},
    )
    one["annotations"].append({"result": [result("choices", "wrong")], "was_cancelled": True})
    one["predictions"] = [{"result": [result("choices", "guessed")]}]
    layouts.write_json(tmp_path / "project.json", [one])
    data = load(tmp_path)
    assert tags(data) == {"a": ("cat", "cow", "dog", "owl", "polar_bear")}
    assert data.faults == ()


def test_uploads_that_label_studio_renamed_are_found(tmp_path: Path, paint: Paint) -> None:
    for name in ("IMG 1 (copy).png", "l'e\u0301te\u0301, 2.png"):
        paint(tmp_path / "images" / name)
    tasks = [
        task("/data/upload/1/0a1b2c3d-IMG_1_copy.png", CAT),
        task("/data/upload/1/0a1b2c3e-l%C3%A9t%C3%A9_2.png", CAT),
    ]
    layouts.write_json(tmp_path / "project.json", tasks)
    data = load(tmp_path)
    assert (len(data.photos), data.faults) == (2, ())


def test_a_text_where_a_list_of_labels_is_due_is_one_label(tmp_path: Path, paint: Paint) -> None:
    paint(tmp_path / "a.png")
    one = task("a.png", {"type": "choices", "value": {"choices": "cat"}})
    layouts.write_json(tmp_path / "project.json", [one])
    assert load(tmp_path).classes == ("cat",)


@pytest.mark.parametrize("kind", ["choices", "taxonomy"])
def test_of_nested_choices_the_innermost_is_the_tag(tmp_path: Path, paint: Paint, kind: str) -> None:
    paint(tmp_path / "a.png")
    value = {kind: [["animal", "cat"], ["animal", "bird", "owl"], ["plant"], []]}
    layouts.write_json(tmp_path / "project.json", [task("a.png", {"type": kind, "value": value})])
    assert load(tmp_path).classes == ("cat", "owl", "plant")


@pytest.mark.parametrize(
    ("address", "photo"),
    [
        ("/data/upload/7/0a1b2c3d-a.png", "0a1b2c3d-a.png"),
        ("/data/upload/7/0a1b2c3d-a.png", "images/a.png"),
        ("/data/local-files/?d=disk/zoo/cat/my%20a.png", "cat/my a.png"),
        ("/data/local-files/?d=disk\\zoo\\a.png", "zoo/a.png"),
        ("https://host:8080/data/local-files/?d=a.png", "a.png"),
        ("s3://bucket/deep/a.png", "deep/a.png"),
        ("https://host/a.png?token=b.png#c.png", "a.png"),
        ("C:\\photos\\a.png", "a.png"),
        ("../a.png", "a.png"),
    ],
)
def test_photos_are_found_at_the_end_of_their_address(tmp_path: Path, paint: Paint, address: str, photo: str) -> None:
    paint(tmp_path / photo)
    layouts.write_json(tmp_path / "project.json", [task(address, CAT)])
    data = load(tmp_path)
    assert [each.path for each in data.photos] == [tmp_path / photo]
    assert data.faults == ()


def test_the_longest_end_that_is_there_is_taken(tmp_path: Path, paint: Paint) -> None:
    for name in ("cat/1.png", "1.png"):
        paint(tmp_path / name)
    layouts.write_json(
        tmp_path / "project.json", [task("gs://b/cat/1.png", CAT), task("gs://b/1.png", result("labels", "dog"))]
    )
    assert tags(load(tmp_path)) == {"cat/1": ("cat",), "1": ("dog",)}


def test_a_photo_that_two_addresses_may_mean_is_left_out(tmp_path: Path, paint: Paint) -> None:
    for name in ("1.png", "2.png"):
        paint(tmp_path / name)
    tasks = [
        task("gs://b/cat/1.png", CAT),
        task("gs://b/dog/1.png", result("choices", "dog")),
        task("gs://b/cat/2.png", CAT),
    ]
    layouts.write_json(tmp_path / "project.json", tasks)
    data = load(tmp_path)
    assert tags(data) == {"2": ("cat",)}
    assert [fault.where for fault in data.faults] == ["project.json: [0]", "project.json: [1]"]
    assert data.faults[0].why == (
        "'1.png' may be 'gs://b/cat/1.png' or 'gs://b/dog/1.png'; keep the folders that tell them apart"
    )


def test_faults_name_the_task(tmp_path: Path, paint: Paint) -> None:
    paint(tmp_path / "a.png")
    tasks = [
        task("a.png", CAT),
        {"image": "a.png", "choice": "cat"},
        task("absent.png", CAT),
        {"data": {"text": "no photo"}, "annotations": []},
        task("data:image/png;base64,AAAA", CAT),
        "a.png",
    ]
    data = load(layouts.write_json(tmp_path / "project.json", tasks))
    assert tags(data) == {"a": ("cat",)}
    assert {fault.where: fault.why.split(",")[0].split(";")[0] for fault in data.faults} == {
        "project.json: [1]": "malformed",
        "project.json: [2]": "photo 'absent.png' not found",
        "project.json: [3]": "no photo in its data",
        "project.json: [4]": "no photo in its data",
        "project.json: [5]": "malformed",
    }


def test_splits_are_lists_of_ids(tmp_path: Path, paint: Paint) -> None:
    root = layouts.write(tmp_path, "label-studio", {"a.png": ("cat",), "b.png": ("dog",)}, paint)
    (root / "splits").mkdir()
    (root / "splits" / "val.txt").write_text("b\n")
    assert tags(load(root, split="val")) == {"b": ("dog",)}
    with pytest.raises(DataError, match="no split 'train'; choose one of val"):
        load(root, split="train")


brush = pytest.importorskip("label_studio_sdk.converter.brush")


@pytest.fixture
def tasks(data: TaggedPhotos, tmp_path: Path) -> list[dict[str, Any]]:
    write(data, tmp_path, "label-studio")
    return json.loads((tmp_path / "tasks.json").read_text())


def test_label_studio_decodes_every_mask(data: TaggedPhotos, tasks: list[dict[str, Any]]):
    for task, photo in zip(tasks, data.photos, strict=True):
        mask = expected(photo)
        rebuilt = np.zeros_like(mask)
        for result in task["predictions"][0]["result"]:
            assert (result["original_height"], result["original_width"]) == mask.shape
            (name,) = result["value"]["brushlabels"]
            rgba = brush.decode_rle(result["value"]["rle"]).reshape(*mask.shape, 4)
            where = rgba == 255
            assert (where.all(axis=2) | (rgba == 0).all(axis=2)).all()
            rebuilt[where[..., 3]] = CLASSES.index(name)
        np.testing.assert_array_equal(rebuilt, mask)


def test_the_predictions_fit_the_interface(tasks: list[dict[str, Any]], tmp_path: Path):
    interface = pytest.importorskip("label_studio_sdk.label_interface").LabelInterface(
        (tmp_path / "interface.xml").read_text()
    )
    interface.validate()
    assert interface.get_control("tag").labels == list(CLASSES[1:])
    for task in tasks:
        assert interface.validate_task({"data": task["data"]})
        assert interface.validate_prediction(task["predictions"][0], return_errors=True) == []
    results = [result["id"] for task in tasks for result in task["predictions"][0]["result"]]
    assert len(set(results)) == len(results) > 10


def served(address: str, document_root: Path, storage: Path) -> Path:
    """The file that Label Studio serves: one in a storage, which must be below its document root."""
    parts = urlsplit(address)
    path = document_root / parse_qs(parts.query)["d"][0]
    assert parts.path == "/data/local-files/"
    assert document_root in storage.parents
    assert storage in path.parents
    return path


def test_label_studio_serves_the_photos_of_tasks(data: TaggedPhotos, tasks: list[dict[str, Any]], tmp_path: Path):
    for task, photo in zip(tasks, data.photos, strict=True):
        assert served(task["data"]["image"], data.root.parent, data.root) == photo.path
        assert task["data"]["tags"] == list(photo.tags)
    write(data, tmp_path / "out", "label-studio", photos=True)
    for task in json.loads((tmp_path / "out/tasks.json").read_text()):
        assert served(task["data"]["image"], tmp_path, tmp_path / "out/images").is_file()


def test_tasks_name_photos_of_the_current_folder(data: TaggedPhotos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(data.root)
    photos = tuple(replace(photo, path=photo.path.relative_to(data.root)) for photo in data.photos)
    write(replace(data, root=Path(), photos=photos), tmp_path / "out", "label-studio")
    for task, photo in zip(json.loads((tmp_path / "out/tasks.json").read_text()), data.photos, strict=True):
        assert served(task["data"]["image"], data.root.parent, data.root) == photo.path


def test_predictions_have_the_version_and_the_score_of_their_model(data: TaggedPhotos, tmp_path: Path):
    first, second = data.photos[:2]
    for photo, score in ((first, 0.875), (second, 7.0)):
        assert photo.mask
        write_mask(photo.mask, read_mask(photo.mask), Provenance("0123456789ab", score))
    write(replace(data, photos=(first, second)), tmp_path, "label-studio")
    predictions = [task["predictions"][0] for task in json.loads((tmp_path / "tasks.json").read_text())]
    assert [(each["model_version"], each["score"]) for each in predictions] == [
        ("0123456789ab", 0.875),
        ("tagmask", None),
    ]


def test_tags_of_tasks_to_import_are_read(tmp_path: Path, paint: Paint) -> None:
    """Those of an exported task are in its annotations alone, which may correct them."""
    for name in ("a.png", "b.png", "c.png"):
        paint(tmp_path / name)
    tasks = [
        {"data": {"image": "a.png", "tags": ["cat", "dog"]}, "predictions": []},
        {"data": {"image": "b.png", "tags": ["cat"]}, "annotations": [{"result": [result("choices", "owl")]}]},
        {"data": {"image": "c.png", "tags": "cat"}},
    ]
    layouts.write_json(tmp_path / "tasks.json", tasks)
    data = load(tmp_path)
    assert tags(data) == {"a": ("cat", "dog"), "b": ("owl",)}
    assert [fault.where for fault in data.faults] == ["tasks.json: [2]"]


@given(lengths=st.lists(st.integers(1, 5) | st.sampled_from([16383, 16384, 16385, 32768, 40000]), max_size=8))
def test_runs_of_any_length_come_back(lengths: list[int]):
    pixels = np.repeat(np.arange(len(lengths) + 1) % 2, [*lengths, 1]).astype(np.uint8)[None]
    decoded = brush.decode_rle(brush_rle(pixels).tolist())
    np.testing.assert_array_equal(decoded, pixels[0].repeat(4) * 255)


def test_marks_in_an_export_are_corrections_where_they_are_named_so(tmp_path: Path, paint: Paint) -> None:
    for name in ("zoo/cat/1.png", "zoo/dog/1.png", "zoo/dog/2.png"):
        paint(tmp_path / name, size=(4, 2))
    half = np.array([[0, 0, 1, 1]] * 2, dtype=np.uint8)
    brushed = result("brushlabels", "Cat", format="rle", rle=brush_rle(half).tolist())
    old = {"result": [result("brushlabels", "dog", format="rle", rle=[])], "updated_at": "2026-01-01T00:00:00Z"}
    skipped = {**old, "was_cancelled": True, "updated_at": "2026-03-01T00:00:00Z"}
    one = task("/data/local-files/?d=x/cat/1.png", brushed, updated_at="2026-02-01T00:00:00Z")
    one["annotations"] += [old, skipped]
    accepted = {**brushed, "origin": "prediction"}
    other = task(
        "/data/upload/7/0a1b2c3d-2.png", accepted, result("polygonlabels", "dog", points=[[0, 0], [49, 0], [0, 99]])
    )
    broken = task("/data/local-files/?d=dog/1.png", result("brushlabels", "dog", format="rle", rle=[0, 1]))
    layouts.write_json(tmp_path / "export.json", [one, other, broken, task("a.png", CAT)])
    assert load(tmp_path / "zoo").corrected == 0
    data = load(tmp_path / "zoo", corrections=tmp_path / "export.json")
    said = {photo.id: photo.correction for photo in data.photos if photo.correction}
    assert {name: (each.shown, each.complete) for name, each in said.items()} == {
        "cat/1": (("Cat",), ("Cat",)),
        "dog/2": (("dog",), ("dog",)),
    }
    np.testing.assert_array_equal(said["cat/1"].labels(["cat"]) == 1, half)
    accepting = load(tmp_path / "zoo", corrections=tmp_path / "export.json", accepted=True)
    assert {name for photo in accepting.photos if photo.correction for name in photo.correction.shown} == {"Cat", "dog"}
    (second,) = (photo.correction for photo in accepting.photos if photo.id == "dog/2")
    assert second
    assert second.complete == ("Cat", "dog")
    assert [(fault.where, fault.why) for fault in data.faults] == [
        ("export.json: [2]", "not used: a brush mask is damaged; correct or remove it")
    ]


def test_tags_that_were_reviewed_are_read_back(tmp_path: Path, paint: Paint) -> None:
    for name in ("a", "b", "c"):
        paint(tmp_path / "zoo/images" / f"{name}.png")
    (tmp_path / "zoo/tags.csv").write_text("image,tags\na.png,cat\nb.png,dog\nc.png,cat\n")
    data = load(tmp_path / "zoo")
    reviews = [
        TagReview(photo, suggested, f"{photo.id} & more", 0.75)
        for photo, suggested in zip(data.photos, (("cat", "dog"), ("polar<bear",), ()), strict=True)
    ]
    classes = ("cat", "dog", "polar<bear")
    write_reviews(reviews, tmp_path / "out", root=data.root, classes=classes, model="v1")
    interface = ElementTree.parse(tmp_path / "out/interface.xml")
    assert [choice.get("value") for choice in interface.iter("Choice")] == list(classes)
    tasks = json.loads((tmp_path / "out/tasks.json").read_text())
    assert [task["data"] for task in tasks] == [
        {"image": f"/data/local-files/?d=zoo/images/{photo.id}.png", "tags": list(photo.tags), "reason": each.reason}
        for photo, each in zip(data.photos, reviews, strict=True)
    ]
    assert [(each["model_version"], each["score"]) for task in tasks for each in task["predictions"]] == [
        ("v1", 0.75)
    ] * 3
    names = {control.get("name"): control.tag for control in interface.iter()}
    accepted = [{"data": task["data"], "annotations": [{"result": task["predictions"][0]["result"]}]} for task in tasks]
    for value in (value for task in accepted for value in task["annotations"][0]["result"]):
        assert (names[value["from_name"]], names[value["to_name"]]) == ("Choices", "Image")
    (tmp_path / "zoo/tags.csv").unlink()
    layouts.write_json(tmp_path / "zoo/project.json", accepted)
    assert tags(load(tmp_path / "zoo")) == {"a": ("cat", "dog"), "b": ("polar<bear",), "c": ()}
