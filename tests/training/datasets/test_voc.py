from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import VOCSegmentation

from tagmask.errors import DataError
from tagmask.masks import read_mask
from tests.training.datasets.masked import CLASSES, expected
from training.datasets import load
from training.datasets.photos import TaggedPhotos
from training.datasets.writing import write

Paint = Callable[..., Path]


def write_lines(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def annotation(*names: str) -> str:
    objects = "".join(f"<object><name>{name}</name><part><name>head</name></part></object>" for name in names)
    return f"<annotation><folder>VOC</folder>{objects}</annotation>"


def tags(data: TaggedPhotos) -> dict[str, tuple[str, ...]]:
    return {photo.id: photo.tags for photo in data.photos}


@pytest.fixture
def voc(tmp_path: Path, paint: Paint) -> Path:
    for name in ("p1", "p2", "p3", "p4"):
        paint(tmp_path / "JPEGImages" / f"{name}.jpg")
    main = tmp_path / "ImageSets" / "Main"
    write_lines(main / "cat_train.txt", "p1  1\np2 -1\np3  0\n")
    write_lines(main / "train_train.txt", "p1 -1\np2  1\np3  1\n")
    write_lines(main / "cat_train_small.txt", "p1  1\n")
    write_lines(main / "train_train_small.txt", "p1 -1\n")
    write_lines(main / "cat_val.txt", "p4  1\n")
    write_lines(main / "train_small.txt", "p1\n")
    write_lines(main / "train.txt", "p1\np2\np3\n")
    write_lines(main / "val.txt", "p4\n")
    return tmp_path


def test_tags_of_a_split(voc: Path) -> None:
    data = load(voc, split="train")
    assert tags(data) == {"p1": ("cat",), "p2": ("train",), "p3": ("cat", "train")}
    assert data.faults == ()
    assert data.mask_classes == ()


def test_class_and_split_with_one_name_and_prefix(voc: Path) -> None:
    """train_train_small.txt is class train of split train_small, train_small.txt a list of ids."""
    assert tags(load(voc, split="train_small")) == {"p1": ("cat",)}


def test_all_splits_together(voc: Path) -> None:
    assert sorted(tags(load(voc))) == ["p1", "p2", "p3", "p4"]


def test_a_photo_where_all_tag_files_of_a_split_miss_their_class(voc: Path, paint: Paint) -> None:
    for name in ("n", "unknown"):
        paint(voc / "JPEGImages" / f"{name}.jpg")
    main = voc / "ImageSets" / "Main"
    for name, lines in {"cat_train": "n -1\nunknown -1\n", "train_train": "n -1\n", "train": "n\nunknown\n"}.items():
        with (main / f"{name}.txt").open("a") as file:
            file.write(lines)
    for split in ("train", None):
        data = load(voc, split=split)
        assert tags(data)["n"] == ()
        assert "unknown" not in tags(data)
        assert [fault.why.partition(" of ")[0] for fault in data.faults] == ["1"]


def test_segmentation_list_goes_before_main(voc: Path) -> None:
    write_lines(voc / "ImageSets" / "Segmentation" / "train.txt", "p3\np1\n")
    assert sorted(tags(load(voc, split="train"))) == ["p1", "p3"]


def test_ids_from_the_tag_files_alone(voc: Path) -> None:
    for name in ("train", "train_small", "val"):
        (voc / "ImageSets" / "Main" / f"{name}.txt").unlink()
    assert tags(load(voc, split="val")) == {"p4": ("cat",)}


def test_unknown_split_names_the_known(voc: Path) -> None:
    with pytest.raises(DataError, match="no split 'test'; choose one of train, train_small, val"):
        load(voc, split="test")


def test_a_table_with_other_tags_in_the_same_folder(voc: Path) -> None:
    write_lines(voc / "tags.csv", "image,tags\np1.jpg,zebra\n")
    with pytest.raises(DataError, match=r"PASCAL VOC or as .*CSV.*--format voc or --format table"):
        load(voc)
    assert load(voc, format="voc").classes == ("cat", "train")
    assert load(voc, format="table").classes == ("zebra",)


def test_annotations_without_lists(tmp_path: Path, paint: Paint) -> None:
    for name in ("p1", "p2", "p3", "p4"):
        paint(tmp_path / "JPEGImages" / f"{name}.jpg")
    write_lines(tmp_path / "Annotations" / "p4.xml", "<annotation><object><pose>left</pose></object></annotation>")
    write_lines(tmp_path / "Annotations" / "p1.xml", annotation("dog", " cat ", "dog"))
    write_lines(tmp_path / "Annotations" / "p2.xml", "<annotation><object>")
    write_lines(tmp_path / "Annotations" / "p3.xml", annotation())
    data = load(tmp_path)
    assert tags(data) == {"p1": ("cat", "dog"), "p3": ()}
    assert {fault.where: fault.why.split(";")[0].split(":")[0] for fault in data.faults} == {
        "Annotations/p2.xml": "its tags are ignored",
        "Annotations/p4.xml": "its class has no name",
        tmp_path.name: "2 of 4 photos without a tag to learn",
    }
    with pytest.raises(DataError, match="it has no splits"):
        load(tmp_path, split="train")


def test_annotations_for_photos_that_no_tag_file_lists(voc: Path) -> None:
    write_lines(voc / "ImageSets" / "Segmentation" / "train.txt", "p1\np4\n")
    write_lines(voc / "Annotations" / "p4.xml", annotation("owl"))
    write_lines(voc / "Annotations" / "p1.xml", annotation("owl"))
    assert tags(load(voc, split="train")) == {"p1": ("cat",), "p4": ("owl",)}


def test_faults_name_the_line(voc: Path) -> None:
    write_lines(voc / "ImageSets" / "Main" / "train.txt", "p1\n\np9\np1\n../p2\np3\n")
    write_lines(voc / "ImageSets" / "Main" / "cat_train.txt", "p1  1\np2  2\np3\n\n")
    data = load(voc, split="train")
    assert sorted(tags(data)) == ["p1", "p3"]
    assert {fault.where: fault.why.split(";")[0] for fault in data.faults} == {
        "ImageSets/Main/cat_train.txt:2": "malformed line",
        "ImageSets/Main/cat_train.txt:3": "malformed line",
        "ImageSets/Main/cat_train.txt:4": "empty line",
        "ImageSets/Main/train.txt:2": "empty line",
        "ImageSets/Main/train.txt:3": "photo 'p9' not found",
        "ImageSets/Main/train.txt:4": "id listed twice",
        "ImageSets/Main/train.txt:5": "'../p2' leads outside the data set's folder",
    }


@pytest.mark.parametrize(
    "line", ["p1.jpg", "JPEGImages/p1.jpg", "JPEGImages\\p1.jpg", "p1 1", "p1 -1", "p1.jpg  0", "p1 \t ", "\ufeffp1"]
)
@pytest.mark.parametrize("name", ["Segmentation/small.txt", "Main/small.txt"])
def test_lines_that_are_more_than_an_id(voc: Path, name: str, line: str) -> None:
    write_lines(voc / "ImageSets" / name, f"{line}\r\n")
    data = load(voc, split="small")
    assert tags(data) == {"p1": ("cat",)}
    assert data.faults == ()


def test_ids_with_suffixes_and_blanks_in_tag_files(voc: Path, paint: Paint) -> None:
    paint(voc / "JPEGImages" / "my 1.jpg")
    write_lines(voc / "ImageSets" / "Main" / "cat_new.txt", "p2.jpg 1\nmy 1  1\nmy 1.jpg -1\n")
    assert tags(load(voc, split="new")) == {"my 1": ("cat",), "p2": ("cat",)}


def test_a_split_without_tags_of_its_own(voc: Path) -> None:
    write_lines(voc / "ImageSets" / "Segmentation" / "some.txt", "p1\np4\n")
    assert tags(load(voc, split="some")) == {"p1": ("cat",), "p4": ("cat",)}
    for path in (voc / "ImageSets" / "Main").glob("*_*.txt"):
        path.unlink()
    with pytest.raises(DataError, match=r"no tags for split 'some', .* add ImageSets/Main/<class>_some\.txt or Annot"):
        load(voc, split="some")


@pytest.mark.parametrize(
    ("photo", "described"),
    [
        ("images/p1.jpg", "Annotations/p1.xml"),
        ("images/p1.jpg", "annotations/p1.xml"),
        ("images/new/p1.jpg", "annotations/new/p1.xml"),
        ("images/p1.jpg", "annotations/xmls/p1.xml"),
        ("images/p1.jpg", "images/p1.xml"),
        ("pictures/p1.jpg", "labels/p1.xml"),
        ("p1.jpg", "p1.xml"),
    ],
)
def test_photos_and_annotations_where_other_tools_have_them(
    tmp_path: Path, paint: Paint, photo: str, described: str
) -> None:
    paint(tmp_path / photo)
    paint((tmp_path / photo).with_stem("alone"))
    write_lines(tmp_path / described, f"<?xml version='1.0'?>\n{annotation('dog')}")
    data = load(tmp_path)
    assert [(each.path, each.tags) for each in data.photos] == [(tmp_path / photo, ("dog",))]
    assert [fault.why for fault in data.faults] == ["1 photo without an annotation; left out"]


def test_masks_and_their_classes(voc: Path, paint_mask: Paint) -> None:
    mask = paint_mask(voc / "SegmentationClass" / "p1.png")
    data = load(voc, split="train")
    assert [photo.mask for photo in data.photos] == [mask, None, None]
    assert (len(data.mask_classes), data.mask_classes[8], data.mask_classes[20]) == (21, "cat", "tvmonitor")
    write_lines(voc / "classes.txt", "background\ntrain\ncat\n\n")
    assert load(voc, split="train").mask_classes == ("background", "train", "cat")


@pytest.mark.parametrize("text", ["cat\ndog\n", "background\n\ncat\n", "background\ncat\ncat\n", ""])
def test_mask_classes_that_name_no_values(voc: Path, paint_mask: Paint, text: str) -> None:
    paint_mask(voc / "SegmentationClass" / "p1.png")
    write_lines(voc / "classes.txt", text)
    with pytest.raises(DataError, match=r"classes\.txt"):
        load(voc)


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
        photo.id.replace("/", "_"): photo.tags for photo in data.photos
    }
    assert read.mask_classes == CLASSES
    for photo in read.photos:
        assert photo.mask == tmp_path / "SegmentationClass" / f"{photo.id}.png"


@pytest.mark.parametrize("name", ["../x", "a:b", "a\\b", ".a", "#a"])
def test_a_class_that_cannot_be_part_of_a_files_name(data: TaggedPhotos, tmp_path: Path, name: str):
    with pytest.raises(DataError, match="VOC has class names in file names"):
        write(replace(data, mask_classes=("background", name)), tmp_path / "out", "voc")
    assert not (tmp_path / "out").exists()
