from pathlib import Path

import numpy as np
import pytest

from tagmask.photos import read_photo
from tests.training.datasets.writers.masked import CLASSES, expected
from training.datasets import load
from training.datasets.photos import TaggedPhotos
from training.datasets.writers import write


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
