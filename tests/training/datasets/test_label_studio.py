from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tagmask.errors import DataError
from tests.training.datasets import layouts
from training.datasets import load
from training.datasets.photos import TaggedPhotos

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
    assert [fault.where for fault in data.faults] == ["project.json: [0]"]


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
        "project.json: [1]": "no task with data and annotations",
        "project.json: [2]": "no photo at the end of 'absent.png'",
        "project.json: [3]": "its data name no photo",
        "project.json: [4]": "its data name no photo",
        "project.json: [5]": "no task with data and annotations",
    }


def test_splits_are_lists_of_ids(tmp_path: Path, paint: Paint) -> None:
    root = layouts.write(tmp_path, "label-studio", {"a.png": ("cat",), "b.png": ("dog",)}, paint)
    (root / "splits").mkdir()
    (root / "splits" / "val.txt").write_text("b\n")
    assert tags(load(root, split="val")) == {"b": ("dog",)}
    with pytest.raises(DataError, match="no split 'train'; choose one of val"):
        load(root, split="train")
