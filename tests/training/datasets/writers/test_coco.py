from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from tests.training.datasets.writers.masked import CLASSES, expected
from training.datasets.photos import TaggedPhotos
from training.datasets.writers import write


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
