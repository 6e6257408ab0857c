"""What `load` does alike for all layouts."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tagmask.errors import DataError
from training.datasets import load

Paint = Callable[..., Path]

REAL = Path(__file__).parents[4] / "shared" / "data"
real = pytest.mark.skipif(not REAL.is_dir(), reason="the folder ../shared/data is absent")
ANIMALS = ("cat", "cow", "dog", "horse", "person", "sheep")


def write_csv(root: Path, paint: Paint, tags: dict[str, str]) -> Path:
    for name in tags:
        paint(root / f"{name}.png")
    (root / "tags.csv").write_text("image,tags\n" + "".join(f'{name}.png,"{text}"\n' for name, text in tags.items()))
    return root


def test_all_tags_are_learned_in_sorted_order(tmp_path: Path, paint: Paint) -> None:
    data = load(write_csv(tmp_path, paint, {"b": "owl cat", "a": "dog"}))
    assert data.classes == ("cat", "dog", "owl")
    assert [(photo.id, photo.tags) for photo in data.photos] == [("a", ("dog",)), ("b", ("cat", "owl"))]
    assert data.root == tmp_path
    assert data.faults == ()


def test_classes_limit_and_order_what_is_learned(tmp_path: Path, paint: Paint) -> None:
    data = load(write_csv(tmp_path, paint, {"a": "dog cat", "b": "owl", "c": "cat", "d": ""}), classes=["dog", "cat"])
    assert data.classes == ("dog", "cat")
    assert [(photo.id, photo.tags) for photo in data.photos] == [("a", ("cat", "dog")), ("c", ("cat",)), ("d", ())]
    (fault,) = data.faults
    assert fault.where == tmp_path.name
    assert fault.why.startswith("1 of 4 photos")


def test_names_for_none(tmp_path: Path, paint: Paint) -> None:
    root = write_csv(tmp_path, paint, {"a": "dog good", "b": "good ok", "c": "Good", "d": "owl", "e": "good owl"})
    data = load(root, none=["GOOD", "ok"], classes=["dog"])
    assert [(photo.id, photo.tags) for photo in data.photos] == [("a", ("dog",)), ("b", ()), ("c", ())]
    assert [fault.why.partition(" photos")[0] for fault in data.faults] == ["2 of 5"]
    with pytest.raises(DataError, match=r"no photo is tagged 'god', did you mean 'good'\?; known tags: "):
        load(root, none=["god"])
    with pytest.raises(DataError, match="'good' is both a class and a name for none; remove it from one of the two"):
        load(root, none=["good"], classes=["Good", "dog"])
    with pytest.raises(
        DataError, match=r"no class to learn, as only photos that show nothing \(5\) are listed; add tagged photos"
    ):
        load(root, none=["good", "ok", "dog", "owl"])


def test_folders_of_photos_that_show_nothing(tmp_path: Path, paint: Paint) -> None:
    for path in ("part/scratch/a.png", "part/good/b.png", "other/dent/c.png", "other/background/d.png"):
        paint(tmp_path / path)
    data = load([tmp_path / "part", tmp_path / "other"], none=["good"])
    assert data.classes == ("dent", "scratch")
    assert {photo.id: photo.tags for photo in data.photos} == {
        "part/scratch/a": ("scratch",), "part/good/b": (), "other/dent/c": ("dent",), "other/background/d": ()
    }  # fmt: skip


def test_a_tag_that_cannot_be_read_is_not_nothing(tmp_path: Path, paint: Paint) -> None:
    data = load(write_csv(tmp_path, paint, {"a": "dog", "b": "[cat", "c": "background [cat", "d": " "}))
    assert [(photo.id, photo.tags) for photo in data.photos] == [("a", ("dog",)), ("d", ())]
    assert [fault.where for fault in data.faults] == ["tags.csv:3", "tags.csv:4", tmp_path.name]


def test_a_photo_that_another_entry_tags_shows_something(tmp_path: Path, paint: Paint) -> None:
    root = write_csv(tmp_path, paint, {"a": "", "b": "dog"})
    with (root / "tags.csv").open("a") as table:
        table.write("a.png,cat\nb.png,\n")
    assert [photo.tags for photo in load(root).photos] == [("cat",), ("dog",)]


def test_unknown_class_names_the_close_and_the_known_ones(tmp_path: Path, paint: Paint) -> None:
    root = write_csv(tmp_path, paint, {"a": "dog", "b": "sheep"})
    with pytest.raises(DataError, match=r"'Dogs', did you mean 'dog'.*known tags: dog, sheep"):
        load(root, classes=["sheep", "Dogs"])
    assert load(root, classes=["sheep", "Dog"]).classes == ("sheep", "Dog")
    with pytest.raises(DataError, match=r"'zebra'; known tags: dog, sheep$"):
        load(root, classes=["zebra"])


@pytest.mark.parametrize(
    "name", ["cat\x07", "c\u2028t", "\ud800", "a" * 65, '["cat"', "'cat'", "cat|dog", "cat,dog", "cat;dog"]
)
def test_names_that_cannot_be_classes(tmp_path: Path, paint: Paint, name: str) -> None:
    paint(tmp_path / "a.png")
    (tmp_path / "tags.jsonl").write_text(json.dumps({"image": "a.png", "tags": [name, "dog"]}))
    data = load(tmp_path)
    assert data.classes == ("dog",)
    (fault,) = data.faults
    assert fault.where == "tags.jsonl:1"
    assert re.search("contains|begins or ends|has 65 characters", fault.why)
    assert load(tmp_path, classes=["dog"]).classes == ("dog",)
    with pytest.raises(DataError, match=r"class .* (contains|begins or ends|has 65 characters)"):
        load(tmp_path, classes=["dog", name])


def test_background_is_no_tag(tmp_path: Path, paint: Paint) -> None:
    data = load(write_csv(tmp_path, paint, {"a": "Background dog", "b": "background"}))
    assert [photo.tags for photo in data.photos] == [("dog",), ()]


def test_at_most_254_classes_each_once(tmp_path: Path, paint: Paint) -> None:
    root = write_csv(tmp_path, paint, {"a": " ".join(f"t{number}" for number in range(254))})
    assert len(load(root).classes) == 254
    with pytest.raises(DataError, match="'t1' is listed twice"):
        load(root, classes=["t1", "t2", "t1"])
    with pytest.raises(DataError, match="'T_1' is listed twice"):
        load(root, classes=["T_1", "t-1"])
    assert len(load(root, classes=[]).classes) == 254
    root = write_csv(tmp_path, paint, {"a": " ".join(f"t{number}" for number in range(255))})
    with pytest.raises(DataError, match="255 classes, more than 254"):
        load(root)


def test_no_layout_and_no_photos(tmp_path: Path, paint: Paint) -> None:
    with pytest.raises(DataError, match="no such folder or list; supported are the inbox of the service, PASCAL VOC"):
        load(tmp_path / "absent")
    with pytest.raises(DataError, match="no known layout, it contains nothing; supported are"):
        load(tmp_path)
    paint(tmp_path / "loose.png")
    paint(tmp_path / "JPEGImages" / "untagged.png")
    with pytest.raises(DataError, match=r"looks like PASCAL VOC without tags, .* add Annotations/<id>\.xml"):
        load(tmp_path)
    (tmp_path / "JPEGImages").rename(tmp_path / "more")
    (tmp_path / "more" / "untagged.png").unlink()
    with pytest.raises(DataError, match=r"contains photos, but no tags; list the tags in tags\.csv"):
        load(tmp_path)
    (tmp_path / "tags.csv").write_text("image,tags\nabsent.png,cat\n")
    with pytest.raises(DataError, match=r"no photos; first fault: tags\.csv:2: photo 'absent\.png' not found"):
        load(tmp_path)


def test_photos_that_show_nothing_alone_leave_no_class(tmp_path: Path, paint: Paint) -> None:
    with pytest.raises(DataError, match=r"no class to learn, as only photos that show nothing \(1\)"):
        load(write_csv(tmp_path, paint, {"a": ""}))


@real
@pytest.mark.parametrize(
    ("split", "counts"),
    [("train_small", (250, 250, 250, 250, 276, 250)), ("val", (64, 37, 62, 34, 47, 30))],
)
def test_real_voc(split: str, counts: tuple[int, ...]) -> None:
    data = load(REAL / "voc-animals", split=split, classes=ANIMALS)
    assert len(data.photos) == {"train_small": 1220, "val": 223}[split]
    assert data.photos_per_class() == dict(zip(ANIMALS, counts, strict=True))
    assert len(data.mask_classes) == 21
    assert all(photo.mask for photo in data.photos)
    assert data.faults == ()


@real
def test_real_voc_lists_and_table_agree() -> None:
    lists, table = load(REAL / "voc-animals"), load(REAL / "voc-animals" / "tags.csv")
    tags = [[(photo.id, photo.path, photo.tags) for photo in data.photos] for data in (lists, table)]
    assert tags[0] == tags[1]
    assert len(tags[0]) == 3354


@real
def test_real_folder_a_class() -> None:
    assert load(REAL / "new-batch").photos_per_class() == dict.fromkeys(("cat", "cow", "dog", "horse", "sheep"), 100)
