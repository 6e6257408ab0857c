from collections.abc import Callable
from pathlib import Path

import pytest

from tagmask.errors import DataError
from tests.training.datasets import layouts
from training.datasets import load
from training.datasets.photos import TaggedPhotos

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
    assert [(fault.where, fault.why.partition(",")[0]) for fault in data.faults] == [
        ("annotations.xml:6", "label 'polar bear' is read as 'polar_bear'")
    ]


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
        "annotations.xml:7": "an image without a name",
        "annotations.xml:9": "no photo 'absent.png'",
        "annotations.xml": "the tracks of a video are ignored",
    }


def test_a_file_that_breaks_off(tmp_path: Path, paint: Paint) -> None:
    root = layouts.write(tmp_path, "cvat", {"a.png": ("cat",)}, paint)
    text = (root / "annotations.xml").read_text()
    (root / "annotations.xml").write_text(text.removesuffix("</annotations>\n"))
    with pytest.raises(DataError, match=r"annotations\.xml: not readable XML"):
        load(root)
