from collections.abc import Callable
from pathlib import Path

import pytest

from tagmask.errors import DataError
from training.datasets import load
from training.datasets.check import check

Paint = Callable[..., Path]


@pytest.fixture
def zoo(tmp_path: Path, paint: Paint) -> Path:
    for number, name in enumerate(("cat/1.png", "cat/2.png", "dog/1.png")):
        paint(tmp_path / "zoo" / name, seed=number)
    return tmp_path / "zoo"


@pytest.fixture
def farm(tmp_path: Path, paint: Paint) -> Path:
    paint(tmp_path / "farm/images/cat/1.png", seed=9)
    (tmp_path / "farm/tags.csv").write_text("image,tags\ncat/1.png,cow cat\nabsent.png,cat\n")
    return tmp_path / "farm"


def test_ids_begin_with_the_name_of_their_data_set(zoo: Path, farm: Path, tmp_path: Path) -> None:
    data = load([zoo, farm])
    assert [(photo.id, photo.tags) for photo in data.photos] == [
        ("farm/cat/1", ("cat", "cow")),
        ("zoo/cat/1", ("cat",)),
        ("zoo/cat/2", ("cat",)),
        ("zoo/dog/1", ("dog",)),
    ]
    assert data.classes == ("cat", "cow", "dog")
    assert data.root == tmp_path
    assert [(fault.where, fault.why.partition(";")[0]) for fault in data.faults] == [
        ("farm/tags.csv:3", "photo 'absent.png' not found")
    ]
    assert load([farm, zoo]).photos == data.photos
    assert load([zoo]) == load(zoo)
    assert len(check(data, workers=1).data.photos) == 4


def test_one_class_in_several_spellings(zoo: Path, farm: Path) -> None:
    (farm / "tags.csv").write_text('image,tags\ncat/1.png,"COW, Cat"\n')
    assert load([zoo, farm]).classes == ("COW", "cat", "dog")


def test_names_are_as_long_as_tells_them_apart(tmp_path: Path, paint: Paint) -> None:
    for year in ("2023", "2024"):
        paint(tmp_path / year / "photos/a.png")
        (tmp_path / year / "photos/tags.csv").write_text(f"image,tags\na.png,t{year}\n")
    ids = [photo.id for photo in load([tmp_path / "2023/photos", tmp_path / "2024/photos"]).photos]
    assert ids == ["2023/photos/a", "2024/photos/a"]
    lists = [tmp_path / year / "photos/tags.csv" for year in ("2023", "2024")]
    assert [photo.id for photo in load(lists).photos] == ["2023/photos/tags/a", "2024/photos/tags/a"]


def test_two_lists_that_differ_in_their_suffix_alone(tmp_path: Path, paint: Paint) -> None:
    for name in ("a", "b"):
        paint(tmp_path / f"{name}.png")
    (tmp_path / "x.csv").write_text("image,tags\na.png,cat\n")
    (tmp_path / "x.jsonl").write_text('{"image": "b.png", "tags": ["dog"]}\n')
    assert [photo.id for photo in load([tmp_path / "x.csv", tmp_path / "x.jsonl"]).photos] == ["x.csv/a", "x.jsonl/b"]


def test_a_photo_of_two_data_sets_is_kept_once(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (zoo / "tags.csv").write_text("image,tags\ncat/1.png,striped\n")
    (zoo / "more.csv").write_text("image,tags\n./cat/1.png,small\ncat/2.png,cat\n")
    monkeypatch.chdir(zoo.parent)
    data = load([Path("zoo/tags.csv"), zoo / "more.csv"])
    assert [(photo.id, photo.tags) for photo in data.photos] == [
        ("more/cat/2", ("cat",)),
        ("tags/cat/1", ("small", "striped")),
    ]
    (fault,) = data.faults
    assert fault.where == "more/cat/1"
    assert "its tags were merged" in fault.why


def test_a_data_set_given_twice(zoo: Path) -> None:
    with pytest.raises(DataError, match="named twice; name each data set once"):
        load([zoo, zoo / "cat" / ".."])


def test_a_split_must_be_one_of_each(zoo: Path, farm: Path) -> None:
    (zoo / "splits").mkdir()
    (zoo / "splits/val.txt").write_text("cat/1\n")
    with pytest.raises(DataError, match=r"farm: no split 'val'"):
        load([zoo, farm], split="val")
    (farm / "splits").mkdir()
    (farm / "splits/val.txt").write_text("cat/1\n")
    assert [photo.id for photo in load([zoo, farm], split="val").photos] == ["farm/cat/1", "zoo/cat/1"]


def test_masks_of_other_classes_are_ignored(zoo: Path, farm: Path, paint_mask: Paint) -> None:
    for root, names in ((zoo, "background\ncat\n"), (farm, "background\ncow\n")):
        paint_mask(root / "masks/cat/1.png")
        (root / "classes.txt").write_text(names)
    data = load([zoo, farm])
    assert data.mask_classes == ("background", "cat")
    assert [photo.id for photo in data.photos if photo.mask] == ["zoo/cat/1"]
    assert "farm" in [fault.where for fault in data.faults]
    (farm / "classes.txt").write_text("background\ncat\n")
    assert [photo.id for photo in load([zoo, farm]).photos if photo.mask] == ["farm/cat/1", "zoo/cat/1"]


def test_classes_may_be_of_any_of_them(zoo: Path, farm: Path) -> None:
    assert load([zoo, farm], classes=["dog", "cow"]).photos_per_class() == {"dog": 1, "cow": 1}
    with pytest.raises(DataError, match=r"zoo, .*farm: no photo is tagged 'owl'"):
        load([zoo, farm], classes=["owl"])
