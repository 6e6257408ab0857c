"""All layouts hold the same photos and tags."""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from tagmask.errors import DataError
from tagmask.photos import read_photo
from tests.training.datasets import layouts
from training.datasets import READERS, Format, load
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
    assert [photo.id for photo in data.photos] == sorted(photo.id for photo in data.photos)
    assert not any(photo.mask for photo in data.photos)


LISTS: list[tuple[Format, str]] = [
    ("table", "tags.csv"),
    ("datumaro", "annotations/train.json"),
    ("coco", "annotations/instances_train.json"),
    ("label-studio", "project-7.json"),
    ("cvat", "annotations.xml"),
]


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
    with pytest.raises(DataError, match=r"absent: no such folder or list; supported are VOC"):
        load(tmp_path / "absent", format=form)


def test_a_folder_that_could_be_two_is_the_first_unless_one_is_insisted_on(tmp_path: Path, paint: Paint) -> None:
    layouts.write(tmp_path, "cvat", {"a.png": ("cat",)}, paint)
    layouts.write(tmp_path, "coco", {"a.png": ("dog",)}, paint)
    assert load(tmp_path).classes == ("dog",)
    assert load(tmp_path, format="cvat").classes == ("cat",)


def test_a_list_whose_layout_does_not_show(tmp_path: Path, paint: Paint) -> None:
    root = layouts.write(tmp_path, "coco", TAGS, paint)
    (root / "list.json").write_text('{"a": 1}')
    with pytest.raises(
        DataError, match=r"list\.json: is not recognised as datumaro or coco or label-studio; .* --format"
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
