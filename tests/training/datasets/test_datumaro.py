from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tagmask.errors import DataError
from tests.training.datasets import layouts
from training.datasets import load
from training.datasets.photos import TaggedPhotos

Paint = Callable[..., Path]

TAGS = {"a.png": ("cat",), "b.png": ("cat", "dog")}


def tags(data: TaggedPhotos) -> dict[str, tuple[str, ...]]:
    return {photo.id: photo.tags for photo in data.photos}


def test_subsets_are_splits(tmp_path: Path, paint: Paint) -> None:
    for split, tag in (("train", "cat"), ("val", "dog")):
        paint(tmp_path / "images" / split / "a.png")
        layouts.write_json(tmp_path / "annotations" / f"{split}.json", layouts.datumaro({"a.png": (tag,)}))
    assert tags(load(tmp_path)) == {"train/a": ("cat",), "val/a": ("dog",)}
    assert tags(load(tmp_path, split="val")) == {"val/a": ("dog",)}
    with pytest.raises(DataError, match="no split 'test'; choose one of train, val"):
        load(tmp_path, split="test")


def test_photos_that_were_not_saved_are_found_by_their_id(tmp_path: Path, paint: Paint) -> None:
    document = layouts.datumaro(TAGS)
    document["items"][0]["image"]["path"] = "/home/somebody/a.png"
    document["items"][1]["image"] = None
    document["items"][1]["media"] = {"path": "b.png"}
    for name in TAGS:
        paint(tmp_path / "images" / name)
    assert tags(load(layouts.write_json(tmp_path / "annotations/default.json", document))) == {
        "a": ("cat",),
        "b": ("cat", "dog"),
    }


def test_faults_name_the_entry(tmp_path: Path, paint: Paint) -> None:
    root = layouts.write(tmp_path, "datumaro", TAGS, paint)
    document: dict[str, Any] = layouts.datumaro(TAGS)
    document["items"][0]["annotations"] += [
        {"type": "polygon", "label_id": 7},
        {"type": "caption", "caption": "a cat"},
        {"type": "mask", "label_id": None},
        {"type": "bbox", "label_id": -1},
        "cat",
    ]
    document["items"] += [{"annotations": []}, {"id": "absent", "annotations": []}]
    layouts.write_json(root / "annotations/train.json", document)
    data = load(root)
    assert tags(data) == {"train/a": ("cat",), "train/b": ("cat", "dog")}
    assert {fault.where: fault.why.split(",")[0].split(";")[0] for fault in data.faults} == {
        "annotations/train.json: items[0].annotations[1]": "its label_id is no label's",
        "annotations/train.json: items[0].annotations[4]": "its label_id is no label's",
        "annotations/train.json: items[0].annotations[5]": "its label_id is no label's",
        "annotations/train.json: items[2]": "malformed",
        "annotations/train.json: items[3]": "no photo 'absent.jpg'",
    }
