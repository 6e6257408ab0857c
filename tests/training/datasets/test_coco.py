from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO

from tagmask.errors import DataError
from tests.training.datasets import layouts
from tests.training.datasets.masked import CLASSES, expected
from training.datasets import load
from training.datasets.photos import TaggedPhotos
from training.datasets.writing import write

Paint = Callable[..., Path]

TAGS = {"a.png": ("cat",), "b.png": ("cat", "dog")}


def tags(data: TaggedPhotos) -> dict[str, tuple[str, ...]]:
    return {photo.id: photo.tags for photo in data.photos}


@pytest.mark.parametrize("folder", ["train2017", "images/train2017", "images", "JPEGImages", "."])
def test_photos_of_a_file_in_annotations(tmp_path: Path, paint: Paint, folder: str) -> None:
    for name in TAGS:
        paint(tmp_path / folder / name)
    layouts.write_json(tmp_path / "annotations/instances_train2017.json", layouts.coco(TAGS))
    data = load(tmp_path, split="train2017")
    assert {photo.path: photo.tags for photo in data.photos} == {
        tmp_path / folder / name: its for name, its in TAGS.items()
    }
    prefix = "train2017/" if "2017" in folder else ""
    assert list(tags(data)) == [f"{prefix}a", f"{prefix}b"]
    assert data.faults == ()


def test_captions_beside_instances_are_not_read(tmp_path: Path, paint: Paint) -> None:
    layouts.write(tmp_path, "coco", TAGS, paint)
    captions = {**layouts.coco(TAGS), "annotations": [{"image_id": 10, "caption": "a cat"}], "categories": []}
    layouts.write_json(tmp_path / "annotations/captions_train.json", captions)
    assert load(tmp_path).faults == ()


def test_a_file_a_split_beside_its_photos(tmp_path: Path, paint: Paint) -> None:
    for split in ("train", "valid"):
        paint(tmp_path / split / "a.png")
        layouts.write_json(tmp_path / split / "_annotations.coco.json", layouts.coco({"a.png": (split,)}))
    assert tags(load(tmp_path)) == {"train/a": ("train",), "valid/a": ("valid",)}
    assert tags(load(tmp_path, split="valid")) == {"valid/a": ("valid",)}
    with pytest.raises(DataError, match="no split 'test'; choose one of train, valid"):
        load(tmp_path, split="test")


def test_a_list_of_ids_is_a_split_too(tmp_path: Path, paint: Paint) -> None:
    layouts.write(tmp_path, "coco", TAGS, paint)
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "small.txt").write_text("train/b\n")
    assert tags(load(tmp_path, split="small")) == {"train/b": ("cat", "dog")}
    with pytest.raises(DataError, match="no split 'val'; choose one of small, train"):
        load(tmp_path, split="val")


def test_names_with_blanks(tmp_path: Path, paint: Paint) -> None:
    layouts.write(tmp_path, "coco", {"a.png": ("traffic light",), "b.png": ("background", "traffic light")}, paint)
    data = load(tmp_path, classes=["traffic_light"])
    assert tags(data) == {"train/a": ("traffic_light",), "train/b": ("traffic_light",)}
    assert data.faults == ()


def test_ids_may_be_text_in_one_place_and_numbers_in_another(tmp_path: Path, paint: Paint) -> None:
    for name in TAGS:
        paint(tmp_path / name)
    document = layouts.coco(TAGS)
    expected = tags(load(layouts.write_json(tmp_path / "list.json", document)))
    for entry in document["annotations"]:
        entry |= {"image_id": str(entry["image_id"]), "category_id": float(entry["category_id"])}
    data = load(layouts.write_json(tmp_path / "list.json", document))
    assert (tags(data), data.faults) == (expected, ())


def test_faults_name_the_entry(tmp_path: Path, paint: Paint) -> None:
    document: dict[str, Any] = layouts.coco(TAGS)
    document["images"] += [{"id": 12}, "x", {"id": 10, "file_name": "b.png"}, {"id": 13, "file_name": "absent.png"}]
    document["annotations"] += [
        {"image_id": 10},
        None,
        {"image_id": 10, "category_id": 99},
        {"image_id": 77, "category_id": 3},
    ]
    document["categories"] += [{"id": 5}, {"id": 3, "name": "cat"}, {"id": 3, "name": "owl"}]
    for name in TAGS:
        paint(tmp_path / name)
    data = load(layouts.write_json(tmp_path / "list.json", document))
    assert tags(data) == {"a": ("cat",), "b": ("cat", "dog")}
    assert {fault.where: fault.why.split(",")[0].split(";")[0] for fault in data.faults} == {
        "list.json: categories[2]": "malformed",
        "list.json: categories[4]": "another category has the id 3",
        "list.json: annotations[3]": "malformed",
        "list.json: annotations[4]": "malformed",
        "list.json: annotations[5]": "no category has the id 99",
        "list.json: images[2]": "malformed",
        "list.json: images[3]": "malformed",
        "list.json: images[4]": "another image has the id 10",
        "list.json: images[5]": "photo 'absent.png' not found",
        "list.json": "annotations of 1 image not listed in images are ignored",
    }


def test_pycocotools_gets_the_masks_back(data: TaggedPhotos, tmp_path: Path):
    write(data, tmp_path / "out", "coco", subset="val")
    coco = COCO(tmp_path / "out/annotations/instances_val.json")
    assert {each["id"]: each["name"] for each in coco.dataset["categories"]} == dict(enumerate(CLASSES[1:], start=1))
    images = coco.loadImgs(sorted(coco.getImgIds()))
    assert [data.root / each["file_name"] for each in images] == [photo.path for photo in data.photos]
    for image, photo in zip(images, data.photos, strict=True):
        mask = expected(photo)
        assert (image["height"], image["width"]) == mask.shape
        rebuilt = np.zeros_like(mask)
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=[image["id"]])):
            where = coco.annToMask(annotation).astype(bool)
            assert not rebuilt[where].any()
            rebuilt[where] = annotation["category_id"]
            rows, columns = np.nonzero(where)
            assert annotation["area"] == rows.size
            assert annotation["bbox"] == [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
        np.testing.assert_array_equal(rebuilt, mask)


def test_supervision_gets_the_masks_back(data: TaggedPhotos, tmp_path: Path):
    supervision = pytest.importorskip("supervision")
    write(data, tmp_path / "out", "coco")
    loaded = supervision.DetectionDataset.from_coco(
        images_directory_path=str(data.root), annotations_path=str(tmp_path / "out/annotations/instances_train.json"),
        force_masks=True,
    )  # fmt: skip
    assert loaded.classes == list(CLASSES[1:])
    for photo in data.photos:
        detections = loaded.annotations[str(photo.path)]
        rebuilt = np.zeros_like(expected(photo))
        for label, where in zip(detections.class_id, detections.mask if len(detections) else (), strict=True):
            rebuilt[where] = label + 1
        np.testing.assert_array_equal(rebuilt, expected(photo))
