from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tagmask.errors import DataError
from tagmask.photos import read_photo
from tests.training.datasets import layouts
from tests.training.datasets.masked import CLASSES, expected
from training.datasets import load
from training.datasets.photos import TaggedPhotos
from training.datasets.writing import write

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


@pytest.mark.parametrize("plain", [str, float])
def test_ids_as_numbers_or_texts(tmp_path: Path, paint: Paint, plain: Callable[[int], object]) -> None:
    paint(tmp_path / "images" / "7.jpg")
    document = layouts.datumaro({"7.jpg": ("cat", "dog")})
    document["items"][0]["id"] = 7
    for annotation in document["items"][0]["annotations"]:
        annotation["label_id"] = plain(annotation["label_id"])
    data = load(layouts.write_json(tmp_path / "annotations/default.json", document))
    assert (tags(data), data.faults) == ({"7": ("cat", "dog")}, ())


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
        "annotations/train.json: items[0].annotations[1]": "unknown label_id",
        "annotations/train.json: items[0].annotations[4]": "unknown label_id",
        "annotations/train.json: items[0].annotations[5]": "unknown label_id",
        "annotations/train.json: items[2]": "malformed",
        "annotations/train.json: items[3]": "photo 'absent.jpg' not found",
    }


def test_datumaro_gets_masks_and_photos_back(data: TaggedPhotos, tmp_path: Path):
    datumaro = pytest.importorskip("datumaro")
    write(data, tmp_path / "out", "datumaro", subset="val")
    loaded = datumaro.Dataset.import_from(str(tmp_path / "out"), "datumaro")
    assert [each.name for each in loaded.categories()[datumaro.AnnotationType.label]] == list(CLASSES[1:])
    items = {item.id: item for item in loaded.get_subset("val")}
    for photo in data.photos:
        item = items[photo.id]
        assert item.media.size == expected(photo).shape
        np.testing.assert_array_equal(item.media.data[..., ::-1], read_photo(photo.path))  # BGR, as OpenCV has it
        rebuilt = np.zeros_like(expected(photo))
        for annotation in item.annotations:
            rebuilt[annotation.image.astype(bool)] = annotation.label + 1
        np.testing.assert_array_equal(rebuilt, expected(photo))


def test_what_is_written_is_read_as_tags(data: TaggedPhotos, tmp_path: Path):
    write(data, tmp_path, "datumaro")
    read = load(tmp_path)
    assert {photo.id.removeprefix("train/"): photo.tags for photo in read.photos} == {
        photo.id: photo.tags for photo in data.photos if photo.tags
    }
    assert not any(photo.mask for photo in read.photos)
