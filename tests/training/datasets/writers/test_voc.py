from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import VOCSegmentation

from tagmask.errors import DataError
from tagmask.masks import read_mask
from tests.training.datasets.writers.masked import CLASSES, expected
from training.datasets import load
from training.datasets.photos import TaggedPhotos
from training.datasets.writers import write


def test_torchvision_gets_the_masks_back(data: TaggedPhotos, tmp_path: Path):
    write(data, tmp_path / "VOCdevkit/VOC2012", "voc")
    loaded = VOCSegmentation(str(tmp_path), year="2012", image_set="train")
    assert len(loaded) == len(data.photos)
    for (picture, mask), photo in zip(loaded, data.photos, strict=True):
        assert photo.mask is not None
        np.testing.assert_array_equal(np.array(mask), read_mask(photo.mask))  # with void
        assert picture.size == mask.size


def test_datumaro_gets_the_masks_back(data: TaggedPhotos, tmp_path: Path):
    datumaro = pytest.importorskip("datumaro")
    data = replace(data, photos=tuple(photo for photo in data.photos if photo.id != "void"))  # no label of its map
    write(data, tmp_path, "voc", subset="val")
    loaded = datumaro.Dataset.import_from(str(tmp_path), "voc_segmentation")
    names = [each.name for each in loaded.categories()[datumaro.AnnotationType.label]]
    items = {item.id: item for item in loaded.get_subset("val")}
    for photo in data.photos:
        rebuilt = np.zeros_like(expected(photo))
        for annotation in items[photo.id.replace("/", "_")].annotations:
            rebuilt[annotation.image.astype(bool)] = CLASSES.index(names[annotation.label])
        np.testing.assert_array_equal(rebuilt, expected(photo))


def test_tagmask_reads_photos_tags_and_masks_back(data: TaggedPhotos, tmp_path: Path):
    write(data, tmp_path, "voc", subset="small")
    read = load(tmp_path, split="small")
    assert {photo.id: photo.tags for photo in read.photos} == {
        photo.id.replace("/", "_"): photo.tags for photo in data.photos if photo.tags
    }
    assert read.mask_classes == CLASSES
    for photo in read.photos:
        assert photo.mask == tmp_path / "SegmentationClass" / f"{photo.id}.png"


@pytest.mark.parametrize("name", ["../x", "a:b", "a\\b", ".a", "#a"])
def test_a_class_that_cannot_be_part_of_a_files_name(data: TaggedPhotos, tmp_path: Path, name: str):
    with pytest.raises(DataError, match="VOC has classes in file names"):
        write(replace(data, mask_classes=("background", name)), tmp_path / "out", "voc")
    assert not (tmp_path / "out").exists()
