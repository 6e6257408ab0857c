import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from tests.training.datasets.writers.masked import CLASSES, expected
from training.datasets.photos import TaggedPhotos
from training.datasets.writers import write


def test_cvats_own_decoder_gets_the_masks_back(data: TaggedPhotos, tmp_path: Path):
    decode_mask = pytest.importorskip("cvat_sdk.masks").decode_mask
    write(data, tmp_path, "cvat")
    images = ElementTree.parse(tmp_path / "annotations.xml").getroot().findall("image")
    for image, photo in zip(images, data.photos, strict=True):
        mask = expected(photo)
        assert (image.get("name"), int(image.get("height", 0)), int(image.get("width", 0))) == (
            f"{photo.id}.jpg",
            *mask.shape,
        )
        rebuilt = np.zeros_like(mask)
        for shape in image.findall("mask"):
            left, top, width, height = (int(shape.get(name, "")) for name in ("left", "top", "width", "height"))
            runs = [int(run) for run in shape.get("rle", "").split(",")]  # as CVAT's importer makes points of them
            points = [*runs, left, top, left + width - 1, top + height - 1]
            where = decode_mask(points, image_width=mask.shape[1], image_height=mask.shape[0])
            rebuilt[where] = CLASSES.index(shape.get("label", ""))
        np.testing.assert_array_equal(rebuilt, mask)


def test_datumaro_gets_the_masks_back(data: TaggedPhotos, tmp_path: Path):
    datumaro = pytest.importorskip("datumaro")
    write(data, tmp_path / "out", "cvat")
    shutil.copytree(data.root / "images", tmp_path / "out/images")
    loaded = datumaro.Dataset.import_from(str(tmp_path / "out"), "cvat")
    names = [each.name for each in loaded.categories()[datumaro.AnnotationType.label]]
    assert names == list(CLASSES[1:])
    items = {item.id: item for item in loaded}
    for photo in data.photos:
        rebuilt = np.zeros_like(expected(photo))
        for annotation in items[photo.id].annotations:
            rebuilt[annotation.image.astype(bool)] = annotation.label + 1
        np.testing.assert_array_equal(rebuilt, expected(photo))
