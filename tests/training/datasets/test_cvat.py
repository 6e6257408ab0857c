from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from tagmask.errors import DataError
from tests.training.datasets import layouts
from tests.training.datasets.masked import CLASSES, expected
from training.datasets import load
from training.datasets.photos import TaggedPhotos
from training.datasets.writing import write

Paint = Callable[..., Path]


def tags(data: TaggedPhotos) -> dict[str, tuple[str, ...]]:
    return {photo.id: photo.tags for photo in data.photos}


def test_shapes_are_tags_too(tmp_path: Path, paint: Paint) -> None:
    for name in ("deep/a", "b"):
        paint(tmp_path / "images" / f"{name}.png")
    (tmp_path / "annotations.xml").write_text("""<?xml version="1.0" encoding="utf-8"?>
<!-- exported -->
<annotations>
  <version>1.1</version>
  <meta><task><labels><label><name>never</name><attributes/></label></labels></task></meta>
  <image id="0" name="deep/a.png" width="12" height="8">
    <tag label="cat" source="manual"><attribute name="colour">red</attribute></tag>
    <polygon label="polar bear" points="1.00,1.00;5.00,1.00;5.00,4.00"></polygon>
    <box label="dog" xtl="1" ytl="1" xbr="3" ybr="3"/>
    <skeleton label="horse"><points label="ear" points="1,1"/></skeleton>
  </image>
  <image id="1" name="b.png" width="12" height="8">
    <mask label="owl" rle="1, 2" left="0" top="0" width="3" height="1"/>
  </image>
</annotations>""")
    data = load(tmp_path)
    assert tags(data) == {"b": ("owl",), "deep/a": ("cat", "dog", "horse", "polar_bear")}
    assert data.faults == ()


def test_subsets_of_a_project_are_splits(tmp_path: Path, paint: Paint) -> None:
    images = ""
    for subset, tag in (("Train", "cat"), ("Val", "dog")):
        paint(tmp_path / "images" / subset / "a.png")
        images += f'<image id="0" name="a.png" subset="{subset}"><tag label="{tag}"/></image>'
    (tmp_path / "annotations.xml").write_text(f"<annotations>{images}</annotations>")
    assert tags(load(tmp_path)) == {"Train/a": ("cat",), "Val/a": ("dog",)}
    assert tags(load(tmp_path, split="Val")) == {"Val/a": ("dog",)}
    with pytest.raises(DataError, match="no split 'test'; choose one of Train, Val"):
        load(tmp_path, split="test")


def test_faults_name_the_line(tmp_path: Path, paint: Paint) -> None:
    root = layouts.write(tmp_path, "cvat", {"a.png": ("cat",)}, paint)
    text = (root / "annotations.xml").read_text()
    more = (
        '<image id="7">\n<tag label="dog"/></image>\n<image name="absent.png">\n</image>\n<track label="cow"></track>\n'
    )
    (root / "annotations.xml").write_text(text.replace("</annotations>", f"{more}</annotations>"))
    data = load(root)
    assert tags(data) == {"a": ("cat",)}
    assert {fault.where: fault.why.split(",")[0].split(";")[0] for fault in data.faults} == {
        "annotations.xml:7": "image without a name",
        "annotations.xml:9": "photo 'absent.png' not found",
        "annotations.xml": "the tracks of a video are ignored",
    }


def test_a_file_that_breaks_off(tmp_path: Path, paint: Paint) -> None:
    root = layouts.write(tmp_path, "cvat", {"a.png": ("cat",)}, paint)
    text = (root / "annotations.xml").read_text()
    (root / "annotations.xml").write_text(text.removesuffix("</annotations>\n"))
    with pytest.raises(DataError, match=r"annotations\.xml: not readable XML"):
        load(root)


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
    write(data, tmp_path / "out", "cvat", photos=True)
    loaded = datumaro.Dataset.import_from(str(tmp_path / "out"), "cvat")
    names = [each.name for each in loaded.categories()[datumaro.AnnotationType.label]]
    assert names == list(CLASSES[1:])
    items = {item.id: item for item in loaded}
    for photo in data.photos:
        rebuilt = np.zeros_like(expected(photo))
        for annotation in items[photo.id].annotations:
            rebuilt[annotation.image.astype(bool)] = annotation.label + 1
        np.testing.assert_array_equal(rebuilt, expected(photo))
