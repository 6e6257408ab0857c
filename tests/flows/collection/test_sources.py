from collections.abc import Callable
from pathlib import Path

import pytest

from flows.collection.sources import Source, read_sources
from tagmask.annotations import Annotation
from tagmask.errors import DataError
from tagmask.inbox import Inbox

Draw = Callable[[int], bytes]


def test_the_services_inbox_is_a_source_and_may_be_empty(tmp_path: Path, photo: Draw):
    inbox = Inbox(tmp_path / "inbox", min_free_bytes=0)
    assert read_sources([Source(tmp_path / "inbox")]).tags == {}
    inbox.add(photo(1), ["dog", "cat"], "image/jpeg", (8, 12))
    assert list(read_sources([Source(tmp_path / "inbox")]).tags.values()) == [("cat", "dog")]


def test_a_photo_whose_json_is_not_yet_written_is_no_class(tmp_path: Path, photo: Draw):
    Inbox(tmp_path, min_free_bytes=0).add(photo(1), ["cat"], "image/jpeg", (8, 12))
    (about,) = tmp_path.rglob("*.json")
    about.unlink()
    listed = read_sources([Source(tmp_path)])
    assert listed.tags == {}
    assert about.name in listed.faults[0].why


def test_class_folders_may_be_empty_but_must_be_there(tmp_path: Path):
    (tmp_path / "cat").mkdir()
    assert read_sources([Source(tmp_path)]).tags == {}
    (tmp_path / "notes.txt").write_text("no photo")
    for root in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DataError, match="supported are"):
            read_sources([Source(root)])


def test_tags_are_limited_to_the_classes_asked_for(table: Callable[..., Path]):
    path = table({"1.jpg": "cat dog", "2.jpg": "sheep", "3.jpg": ""})
    listed = read_sources([Source(path, classes=("cat", "owl"))])
    assert [(Path(name).name, tags) for name, tags in listed.tags.items()] == [
        ("1.jpg", ("cat",)),
        ("2.jpg", ()),
        ("3.jpg", ("background",)),
    ]
    assert list(listed.tags.values()).count(()) == 1


def test_photos_that_show_nothing_have_the_tag_background(table: Callable[..., Path], tmp_path: Path, photo: Draw):
    path = table({"1.jpg": "cat", "2.jpg": "good", "3.jpg": "good cat", "4.jpg": "", "5.jpg": ""})
    other = table({"5.jpg": "cat"}, "b.csv")
    listed = read_sources([Source(path, none=("Good",)), Source(other)])
    nothing = ("background",)
    assert list(listed.tags.values()) == [("cat",), nothing, ("cat",), nothing, ("cat",)]
    inbox = Inbox(tmp_path / "inbox", min_free_bytes=0)
    inbox.add(photo(1), ["Background"], "image/jpeg", (8, 12))
    inbox.annotate(Annotation(1, task=1), photo(2), ["cat"], "image/jpeg", (8, 12))
    inbox.delete(None, {1})
    assert sorted(read_sources([Source(tmp_path / "inbox")]).tags.values()) == [(), nothing]


def test_a_photo_in_several_sources_has_the_tags_of_all(table: Callable[..., Path]):
    first, second = table({"1.jpg": "cat"}, "a.csv"), table({"1.jpg": "dog", "2.jpg": "cat"}, "b.csv")
    listed = read_sources([Source(second), Source(first)])
    assert listed.tags == {
        str(first.with_name("1.jpg")): ("cat", "dog"),
        str(first.with_name("2.jpg")): ("cat",),
    }


def test_only_the_split_is_read(tmp_path: Path, photo: Draw):
    for seed, name in enumerate(("old", "new")):
        (tmp_path / f"{name}.jpg").write_bytes(photo(seed))
    path = tmp_path / "list.csv"
    path.write_text("image,tags,split\nold.jpg,cat,one\nnew.jpg,cat,two\n")
    assert [Path(name).stem for name in read_sources([Source(path, split="two")]).tags] == ["new"]
    with pytest.raises(DataError, match="choose one of one, two"):
        read_sources([Source(path, split="three")])


def test_the_format_can_be_insisted_on(tmp_path: Path, photo: Draw):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.jpg").write_bytes(photo(1))
    (tmp_path / "list.csv").write_text("image,tags\ncat/1.jpg,dog\n")
    faults = {form: list(read_sources([Source(tmp_path, format=form)]).tags.values()) for form in ("table", "folders")}
    assert faults == {"table": [("dog",)], "folders": [("cat",)]}
    with pytest.raises(DataError, match=r"no \.json in it"):
        read_sources([Source(tmp_path, format="coco")])


def test_a_tag_that_no_class_can_have_is_a_fault(table: Callable[..., Path]):
    path = table({"1.jpg": "cat;polar|bear", "2.jpg": "cat", "3.jpg": "background", "4.jpg": "cat"})
    path.with_name("4.jpg").unlink()
    listed = read_sources([Source(path)])
    assert {Path(name).name: tags for name, tags in listed.tags.items()} == {
        "1.jpg": ("cat",), "2.jpg": ("cat",), "3.jpg": ("background",),
    }  # fmt: skip
    faults = {fault.where.rpartition("/")[2]: fault.why for fault in listed.faults}
    assert set(faults) == {"tags.csv:2", "tags.csv:5"}
    assert "'polar|bear'" in faults["tags.csv:2"]


def test_no_classes_are_all(table: Callable[..., Path]):
    path = table({"1.jpg": "cat", "2.jpg": "dog"})
    assert read_sources([Source(path, classes=())]) == read_sources([Source(path)])


def test_classes_are_named_in_any_spelling(table: Callable[..., Path]):
    path = table({"1.jpg": "Polar_bear;cat", "2.jpg": "polar-bear", "3.jpg": "dog"})
    listed = read_sources([Source(path, classes=("polar bear",))])
    assert [tags for tags in listed.tags.values() if tags] == [("Polar_bear",), ("Polar_bear",)]
