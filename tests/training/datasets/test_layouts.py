"""All layouts hold the same photos and tags."""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from tagmask.errors import DataError
from tagmask.photos import read_photo
from tests.training.datasets import layouts
from training.datasets import Format, load
from training.datasets.layouts import READERS
from training.datasets.photos import TaggedPhotos

Paint = Callable[..., Path]

FORMATS: tuple[Format, ...] = get_args(Format)
TAGS = {"a.png": ("cat",), "b.png": ("dog",), "c.png": ("cat", "dog")}
ONE_EACH = {"a.png": ("cat",), "b.png": ("dog",), "c.png": ("cat",)}


def pictures(data: TaggedPhotos) -> dict[bytes, tuple[str, ...]]:
    return {read_photo(photo.path).tobytes(): photo.tags for photo in data.photos}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("insisted", [False, True], ids=["found out", "insisted"])
def test_every_layout_gives_the_same_photos_and_tags(
    tmp_path: Path, paint: Paint, form: Format, insisted: bool
) -> None:
    tags = ONE_EACH if form == "folders" else TAGS
    root = layouts.write(tmp_path / "data", form, tags, paint)
    data = load(root, format=form if insisted else None)
    plain = {
        read_photo(paint(tmp_path / "plain" / name, seed=seed)).tobytes(): its
        for seed, (name, its) in enumerate(tags.items())
    }
    assert pictures(data) == plain
    assert data.classes == ("cat", "dog")
    assert data.faults == ()
    assert data.root == root
    assert data.layout == READERS[form].title
    assert [photo.id for photo in data.photos] == sorted(photo.id for photo in data.photos)
    assert not any(photo.mask for photo in data.photos)


@pytest.mark.parametrize("form", [form for form in FORMATS if form != "folders"])
def test_photos_without_a_tag_show_nothing_where_the_layout_can_say_so(
    tmp_path: Path, paint: Paint, form: Format
) -> None:
    data = load(layouts.write(tmp_path, form, {**TAGS, "n.png": ()}, paint))
    said = form in ("voc", "table", "label-studio", "yolo")
    assert sorted(photo.tags for photo in data.photos) == sorted([*TAGS.values(), *([()] if said else [])])
    assert [fault.why for fault in data.faults] == ([] if said else ["1 of 4 photos without a tag to learn; left out"])


LISTS: list[tuple[Format, str]] = [
    ("table", "tags.csv"),
    ("datumaro", "annotations/train.json"),
    ("coco", "annotations/instances_train.json"),
    ("label-studio", "project-7.json"),
    ("cvat", "annotations.xml"),
]


@pytest.mark.parametrize("form", ["voc", "datumaro", "coco", "label-studio", "cvat", "samples"])
def test_a_class_without_a_name_is_reported(tmp_path: Path, paint: Paint, form: Format) -> None:
    data = load(layouts.write(tmp_path, form, {"a.png": ("cat",), "b.png": ("",)}, paint))
    assert [photo.tags for photo in data.photos] == [("cat",)]
    fault, left_out = data.faults
    assert fault.why == "its class has no name; add the name, or remove the entry"
    assert left_out.why == "1 of 2 photos without a tag to learn; left out"


@pytest.mark.parametrize(("form", "path"), LISTS)
def test_a_list_may_be_named_by_itself(tmp_path: Path, paint: Paint, form: Format, path: str) -> None:
    root = layouts.write(tmp_path, form, TAGS, paint)
    for insisted in (None, form):
        assert load(root / path, format=insisted) == load(root)


@pytest.mark.parametrize("form", FORMATS)
def test_another_layout_that_is_insisted_on_is_an_error_or_finds_nothing(
    tmp_path: Path, paint: Paint, form: Format
) -> None:
    paint(tmp_path / "loose.png")
    with pytest.raises(DataError, match=str(tmp_path)):
        load(tmp_path, format=form)
    with pytest.raises(DataError, match=r"absent: no such folder or list; supported are .*VOC.*docs/data\.md"):
        load(tmp_path / "absent", format=form)


def test_a_folder_that_could_be_two_and_they_disagree(tmp_path: Path, paint: Paint) -> None:
    layouts.write(tmp_path, "cvat", {"a.png": ("cat",)}, paint)
    layouts.write(tmp_path, "label-studio", {"a.png": ("dog",)}, paint)
    with pytest.raises(DataError, match=r"Label Studio or as CVAT, .* --format label-studio or --format cvat"):
        load(tmp_path)
    assert load(tmp_path, format="label-studio").classes == ("dog",)
    assert load(tmp_path, format="cvat").classes == ("cat",)


def test_a_folder_that_could_be_two_and_they_agree(tmp_path: Path, paint: Paint) -> None:
    for form in ("cvat", "table"):
        layouts.write(tmp_path, form, TAGS, paint)
    assert load(tmp_path) == load(tmp_path, format="table")


def test_a_list_whose_layout_does_not_show(tmp_path: Path, paint: Paint) -> None:
    root = layouts.write(tmp_path, "coco", TAGS, paint)
    (root / "list.json").write_text('{"a": 1}')
    with pytest.raises(
        DataError, match=r"list\.json: is not recognised as table or datumaro or coco or label-studio; .* --format"
    ):
        load(root / "list.json")
    with pytest.raises(DataError, match=r"list\.json: not COCO, which has lists of images"):
        load(root / "list.json", format="coco")
    with pytest.raises(DataError, match=r"list\.json: a \.json file is not in the format cvat"):
        load(root / "list.json", format="cvat")


def test_readers_have_the_names_that_can_be_insisted_on() -> None:
    assert tuple(READERS) == FORMATS


def exported(root: Path, paint: Paint, form: str, subset: str = "train") -> Path:
    """A data set of image labels and outlines as Datumaro's own library writes it."""
    datumaro = pytest.importorskip("datumaro")
    items = []
    for seed, (name, labels) in enumerate((("deep/a", (0,)), ("b", (0, 1)), ("c", ()))):
        picture = np.asarray(read_photo(paint(root.parent / "painted" / f"{seed}.png", seed=seed)))
        outlines = [datumaro.Polygon([1, 1, 9, 1, 9, 6], label=label) for label in labels[:1]]
        boxes = [datumaro.Bbox(1, 1, 4, 4, label=label) for label in labels[1:]]
        media = datumaro.Image.from_numpy(picture[..., ::-1])
        items.append(datumaro.DatasetItem(id=name, subset=subset, media=media, annotations=[*outlines, *boxes]))
    dataset = datumaro.Dataset.from_iterable(items, categories=["cat", "dog"])
    dataset.export(str(root), form, save_media=True)
    return root


@pytest.mark.parametrize("form", ["coco", "datumaro", "cvat"])
def test_what_datumaro_exports_is_read(tmp_path: Path, paint: Paint, form: Format) -> None:
    data = load(exported(tmp_path / "data", paint, form))
    assert sorted((photo.path.stem[-1], photo.tags) for photo in data.photos) == [
        ("a", ("cat",)),
        ("b", ("cat", "dog")),
    ]
    (fault,) = data.faults
    assert "1 of 3 photos without a tag to learn" in fault.why


def write_parts(root: Path, form: Format, paint: Paint) -> None:
    layouts.write(root / "train", form, {"a.png": ("cat",), "b.png": ("dog",)}, paint)
    layouts.write(root / "valid", form, {"a.png": ("cat",)}, paint)


@pytest.mark.parametrize("form", [form for form in FORMATS if form != "samples"])
def test_a_folder_of_splits_is_one_data_set(tmp_path: Path, paint: Paint, form: Format) -> None:
    write_parts(tmp_path / "stored", form, paint)
    tmp_path /= "linked"
    tmp_path.symlink_to("stored")
    for insisted in (None, form):
        data = load(tmp_path, format=insisted)
        assert (data.classes, len(data.photos), data.faults) == (("cat", "dog"), 3, ())
        assert {photo.id.partition("/")[0] for photo in data.photos} == {"train", "valid"}
        assert data.layout == f"{READERS[form].title}, in train/, valid/"
        assert data.root == tmp_path
        assert all(photo.path.is_relative_to(tmp_path / photo.id.partition("/")[0]) for photo in data.photos)
        (photo,) = load(tmp_path, split="valid", format=insisted).photos
        assert photo == next(each for each in data.photos if each.id.startswith("valid/"))
    with pytest.raises(DataError, match="no split 'test'; choose one of train, valid"):
        load(tmp_path, split="test")


def test_a_split_without_tags_is_told(tmp_path: Path, paint: Paint) -> None:
    write_parts(tmp_path, "folders", paint)
    paint(tmp_path / "test" / "c.png")
    data = load(tmp_path)
    assert len(data.photos) == 3
    ((where, why),) = [(fault.where, fault.why) for fault in data.faults]
    assert where == "test/"
    assert why.startswith("left out: contains photos, but no tags; list the tags in tags.csv")


@pytest.mark.parametrize("form", FORMATS)
def test_a_folder_around_a_data_set_is_passed_through(tmp_path: Path, paint: Paint, form: Format) -> None:
    layouts.write(tmp_path / "archive" / "zoo", form, ONE_EACH, paint)
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "README.txt").touch()
    for insisted in (None, form):
        assert load(tmp_path, format=insisted) == load(tmp_path / "archive" / "zoo")


def test_splits_that_are_links_and_several_data_sets(tmp_path: Path, paint: Paint) -> None:
    write_parts(tmp_path / "stored", "folders", paint)
    (tmp_path / "zoo").mkdir()
    for name in ("train", "valid"):
        (tmp_path / "zoo" / name).symlink_to(tmp_path / "stored" / name)
    data = load(tmp_path / "zoo")
    assert all(photo.path == data.root / photo.path.relative_to(tmp_path / "zoo") for photo in data.photos)
    layouts.write(tmp_path / "farm", "yolo", TAGS, paint)
    both = load([tmp_path / "zoo", tmp_path / "farm"])
    assert [photo.id.split("/")[:2] for photo in both.photos] == [
        *[["farm", "train"]] * 3, *[["zoo", "train"]] * 2, ["zoo", "valid"]
    ]  # fmt: skip
    assert both.layout == "one folder per class, in train/, valid/, YOLO"


def test_a_file_that_is_no_list(tmp_path: Path, paint: Paint) -> None:
    root = layouts.write(tmp_path, "yolo", TAGS, paint)
    with pytest.raises(DataError, match=r"a \.yaml file is not read, name the data set's folder or its list"):
        load(root / "data.yaml")


def test_folders_that_may_be_classes_or_data_sets(tmp_path: Path, paint: Paint) -> None:
    for name in ("zoo", "farm"):
        layouts.write(tmp_path / name, "label-studio", TAGS, paint)
    with pytest.raises(
        DataError, match=r"farm/ may be a class or a data set; choose --format folders .*, such as .*/farm"
    ):
        load(tmp_path)
    assert load(tmp_path, format="folders").classes == ("farm", "zoo")


def test_data_sets_side_by_side_are_to_be_named(tmp_path: Path, paint: Paint) -> None:
    for name in ("zoo", "farm"):
        layouts.write(tmp_path / name, "table", TAGS, paint)
    with pytest.raises(DataError, match=f"contains data sets, and is none itself; name each, such as {tmp_path}/farm"):
        load(tmp_path)


LABELME = '{"version": "5.0", "flags": {}, "shapes": [{"label": "cat"}], "imagePath": "1.png"}'
PANOPTIC = """{"images": [{"id": 1, "file_name": "1.png"}], "categories": [{"id": 1, "name": "cat"}],
    "annotations": [{"image_id": 1, "segments_info": [{"id": 1, "category_id": 1}]}]}"""


@pytest.mark.parametrize(
    ("paths", "text", "why"),
    [
        (["ds1/img/1.png", "ds1/ann/1.png.json", "meta.json"], "{}", "looks like Supervisely, .* export .* COCO"),
        (["a/img/1.png", "a/ann/1.json", "b/img/1.png", "b/ann/1.json"], "{}", "looks like Supervisely"),
        (["train/img/1.png", "train/ann/1.png.json"], "{}", "looks like Supervisely"),
        (["1.png", "1.json"], LABELME, "looks like LabelMe, .* labelme2coco"),
        (["1.png", "via.json"], '{"_via_settings": {}}', "looks like VGG Image Annotator"),
        (
            ["images/1.png", "masks/1.png"],
            "",
            r"photos and their masks, .* not read from masks, so list the tags in tags\.csv",
        ),
        (["images/1.png", "labels/1.png"], "", "photos and their masks"),
        (["train/1.png", "train_masks/1.png"], "", "photos and their masks"),
        (["train/1.png", "train/1_mask.png"], "", "photos and their masks"),
        (["images/training/1.png", "annotations/training/1.png"], "", "photos and their masks"),
        (["leftImg8bit/train/1.png", "gtFine/train/1.png"], "", "photos and their masks"),
        (["cat/images/1.png", "cat/masks/1.png", "dog/images/1.png"], "", "photos and their masks"),
        (["JPEGImages/1.png", "SegmentationClass/1.png"], "", r"VOC without tags, .* add Annotations/<id>\.xml"),
        (["images/1.png", "annotations/panoptic.json"], PANOPTIC, r"panoptic\.json: is COCO panoptic, .* instances_"),
        (["train/1.png", "labels.csv"], "id,breed\n1,cat\n", r"labels\.csv: the first line must be .* not 'id,breed'"),
        (["a.tfrecord"], "x", "packed photos, which cannot be read; unpack them"),
        (["images/1.png", "labels/1.txt"], "0 .5 .5 .1 .1", "labels of YOLO, but no names of classes; add data.yaml"),
        (["1.png", "2.png"], "", "contains photos, but no tags; list the tags"),
        *(
            (["train/1.png", "labels.txt"], line, r"looks like a list of tags in \.txt, .* save it as tags\.csv")
            for line in ("train/1.png cat dog\n", "my cat.JPG,cat\n", "'1.png' 3\n")
        ),
        (["image_2/1.png", "label_2/1.txt"], "Car 0.0 1.5", "image_2: contains photos, but no tags"),
        (["train2017/1.png", "val2017/1.png"], "", "train2017: contains photos, but no tags"),
        (
            ["1.png", "metadata.jsonl"],
            '{"file_name": "1.png", "text": "a"}',
            r"metadata\.jsonl:1: malformed entry; write",
        ),
        (
            ["1.png", "min.json"],
            '[{"image": "1.png", "choice": "cat"}]',
            r"min\.json: is not recognised as table or .*, or list the tags in a \.csv or \.json",
        ),
    ],
)
def test_what_cannot_be_read_is_named_with_the_remedy(
    tmp_path: Path, paint: Paint, paths: list[str], text: str, why: str
) -> None:
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    for path in tmp_path.rglob("*.png"):
        paint(path)
    with pytest.raises(DataError, match=why):
        load(tmp_path)
