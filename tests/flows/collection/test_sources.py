from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from flows.collection.catalogue import Catalogue
from flows.collection.source_list import SourceList
from flows.collection.sources import Source, read_sources
from flows.workspace import Workspace
from tagmask.corrections import Correction, decode_correction
from tagmask.errors import DataError, Fault
from tagmask.inbox import CORRECTION_SUFFIX, Annotation, Inbox
from tagmask.masks import write_mask
from training.datasets import mask_sources, samples
from training.datasets.listing import read_text

Draw = Callable[[int], bytes]
Reader = Callable[..., "Read"]


@dataclass(frozen=True)
class Read:
    """What sources list: the tags of each photo by its path, the corrections likewise, and the faults."""

    tags: dict[str, tuple[str, ...]]
    corrections: dict[str, Correction]
    faults: list[Fault]


@pytest.fixture
def read(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    workspace = Workspace(tmp_path_factory.mktemp("workspace"))

    def read(*sources: Source) -> Read:
        with Catalogue(workspace) as catalogue, SourceList(workspace) as source_list:
            read_sources(sources, catalogue, source_list)
            corrections = {photo.path: photo.correction for photo in source_list if photo.correction}
            return Read({photo.path: photo.tags for photo in source_list}, corrections, source_list.faults)

    return read


def test_the_services_inbox_is_a_source_and_may_be_empty(tmp_path: Path, photo: Draw, read: Reader):
    inbox = Inbox(tmp_path / "inbox", min_free_bytes=0)
    assert read(Source(tmp_path / "inbox")).tags == {}
    inbox.add(photo(1), ["dog", "cat"], "image/jpeg", (8, 12))
    assert list(read(Source(tmp_path / "inbox")).tags.values()) == [("cat", "dog")]


def test_a_photo_whose_json_is_not_yet_written_is_no_class(
    tmp_path: Path, photo: Draw, read: Reader, tmp_path_factory: pytest.TempPathFactory
):
    Inbox(tmp_path, min_free_bytes=0).add(photo(1), ["cat"], "image/jpeg", (8, 12))
    (about,) = tmp_path.rglob("*.json")
    about.unlink()
    listed = read(Source(tmp_path))
    assert listed.tags == {}
    assert about.name in listed.faults[0].why
    made = tmp_path_factory.mktemp("made")
    (made / "classes.txt").write_text("background\ncat\n")
    write_mask(made / f"{about.stem}.png", np.zeros((8, 12), np.uint8))
    assert read(Source(tmp_path, hints=made)).tags == {}


def test_a_description_is_read_again_only_when_it_changes(
    tmp_path: Path, photo: Draw, read: Reader, monkeypatch: pytest.MonkeyPatch
):
    inbox, source = Inbox(tmp_path, min_free_bytes=0), Source(tmp_path)
    for number in (1, 2):
        inbox.add(photo(number), ["cat"], "image/jpeg", (8, 12))
    first = read(source)
    opened: list[str] = []

    def reading(path: Path, max_bytes: int) -> str:
        opened.append(path.name)
        return read_text(path, max_bytes)

    monkeypatch.setattr(samples, "read_text", reading)
    assert (read(source), opened) == (first, [])
    changed = inbox.add(photo(2), ["dog"], "image/jpeg", (8, 12))
    assert sorted(read(source).tags.values()) == [("cat",), ("cat", "dog")]
    assert opened == [f"{changed.id}.json"]
    (tmp_path / changed.id[:2] / f"{changed.id}.jpg").unlink()
    (fault,) = read(source).faults
    assert "not found beside it" in fault.why
    for path in tmp_path.rglob(f"{changed.id}.*"):
        path.unlink()
    assert (list(read(source).tags.values()), read(source).faults) == ([("cat",)], [])


CAT, DOG = (Correction((8, 12), ((name, "0P3"),)) for name in ("cat", "dog"))
"""All pixels of a photo of 12x8 pixels are of the class."""


def test_a_correction_is_decoded_again_only_when_its_file_changes(
    tmp_path: Path, photo: Draw, read: Reader, monkeypatch: pytest.MonkeyPatch
):
    inbox, source = Inbox(tmp_path, min_free_bytes=0), Source(tmp_path)
    for number in (1, 2):
        sample = inbox.add(photo(number), ["cat"], "image/jpeg", (8, 12), correction=CAT)
    path = tmp_path / sample.id[:2] / f"{sample.id}{CORRECTION_SUFFIX}"
    first = read(source)
    assert list(first.corrections.values()) == [CAT, CAT]
    decoded: list[bytes] = []

    def decode(data: bytes, names: tuple[str, ...], *, predicted: bool) -> Correction:
        decoded.append(data)
        return decode_correction(data, names, predicted=predicted)

    monkeypatch.setattr(mask_sources, "decode_correction", decode)
    assert (read(source), decoded) == (first, [])
    path.write_bytes(Correction((8, 12), (("cat", "01o2"),)).encode())
    assert len({each.areas for each in read(source).corrections.values()}) == 2
    assert decoded == [path.read_bytes()]
    path.write_bytes(b"no PNG")
    for _ in range(2):  # until it is corrected
        listed = read(source)
        assert list(listed.corrections.values()) == [CAT]
        assert [fault.where.rpartition("/")[2] for fault in listed.faults] == [path.name]
    path.unlink()
    listed = read(source)
    assert (list(listed.tags.values()), len(listed.corrections), listed.faults) == ([("cat",)] * 2, 1, [])


def test_a_correction_adds_the_classes_of_the_whole_inbox(tmp_path: Path, photo: Draw, read: Reader):
    inbox = Inbox(tmp_path, min_free_bytes=0)
    ids = [inbox.add(photo(seed), ["cat", "cow"], "image/jpeg", (8, 12), correction=DOG).id for seed in range(7)]
    for about in tmp_path.rglob("*.json"):
        about.write_text(about.read_text().replace("cow", "c|w"))
    assert set(read(Source(tmp_path)).tags.values()) == {("cat",)}
    inbox.add(photo(8), ["Dog"], "image/jpeg", (8, 12))
    listed = read(Source(tmp_path))
    tags = {Path(path).stem: tags for path, tags in listed.tags.items()}
    assert {tags[name] for name in ids} == {("Dog", "cat")}
    assert len(listed.corrections) == len(ids)
    assert sum("'c|w'" in fault.why for fault in listed.faults) == len(ids)  # each is told once
    limited = read(Source(tmp_path, classes=("dog",)))
    assert set(limited.tags.values()) == {("Dog",)}


def test_an_inbox_and_a_list_of_its_photos_are_read_as_one(tmp_path: Path, photo: Draw, read: Reader):
    sample = Inbox(tmp_path / "inbox", min_free_bytes=0).add(photo(1), ["cat"], "image/jpeg", (8, 12))
    (tmp_path / "tags.csv").write_text(f"image,tags\ninbox/{sample.id[:2]}/{sample.id}.jpg,dog\n")
    listed = read(Source(tmp_path / "inbox"), Source(tmp_path / "tags.csv"))
    assert list(listed.tags.values()) == [("cat", "dog")]


def test_class_folders_may_be_empty_but_must_be_there(tmp_path: Path, read: Reader):
    (tmp_path / "cat").mkdir()
    assert read(Source(tmp_path)).tags == {}
    (tmp_path / "notes.txt").write_text("no photo")
    for root in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DataError, match="supported are"):
            read(Source(root))


def test_tags_are_limited_to_the_classes_asked_for(table: Callable[..., Path], read: Reader):
    path = table({"1.jpg": "cat dog", "2.jpg": "sheep", "3.jpg": ""})
    listed = read(Source(path, classes=("cat", "owl")))
    assert [(Path(name).name, tags) for name, tags in listed.tags.items()] == [
        ("1.jpg", ("cat",)),
        ("2.jpg", ()),
        ("3.jpg", ("background",)),
    ]
    assert list(listed.tags.values()).count(()) == 1


def test_photos_that_show_nothing_have_the_tag_background(
    table: Callable[..., Path], tmp_path: Path, photo: Draw, read: Reader
):
    path = table({"1.jpg": "cat", "2.jpg": "good", "3.jpg": "good cat", "4.jpg": "", "5.jpg": ""})
    other = table({"5.jpg": "cat"}, "b.csv")
    listed = read(Source(path, none=("Good",)), Source(other))
    nothing = ("background",)
    assert list(listed.tags.values()) == [("cat",), nothing, ("cat",), nothing, ("cat",)]
    inbox = Inbox(tmp_path / "inbox", min_free_bytes=0)
    inbox.add(photo(1), ["Background"], "image/jpeg", (8, 12))
    inbox.annotate(Annotation(1, task=1), photo(2), ["cat"], "image/jpeg", (8, 12))
    inbox.delete(None, {1})
    assert sorted(read(Source(tmp_path / "inbox")).tags.values()) == [(), nothing]


def test_a_photo_in_several_sources_has_the_tags_of_all(table: Callable[..., Path], read: Reader):
    first, second = table({"1.jpg": "cat"}, "a.csv"), table({"1.jpg": "dog", "2.jpg": "cat"}, "b.csv")
    listed = read(Source(second), Source(first))
    assert listed.tags == {
        str(first.with_name("1.jpg")): ("cat", "dog"),
        str(first.with_name("2.jpg")): ("cat",),
    }


def test_only_the_split_is_read(tmp_path: Path, photo: Draw, read: Reader):
    for seed, name in enumerate(("old", "new")):
        (tmp_path / f"{name}.jpg").write_bytes(photo(seed))
    path = tmp_path / "list.csv"
    path.write_text("image,tags,split\nold.jpg,cat,one\nnew.jpg,cat,two\n")
    assert [Path(name).stem for name in read(Source(path, split="two")).tags] == ["new"]
    with pytest.raises(DataError, match="choose one of one, two"):
        read(Source(path, split="three"))


def test_the_format_can_be_insisted_on(tmp_path: Path, photo: Draw, read: Reader):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.jpg").write_bytes(photo(1))
    (tmp_path / "list.csv").write_text("image,tags\ncat/1.jpg,dog\n")
    faults = {form: list(read(Source(tmp_path, format=form)).tags.values()) for form in ("table", "folders")}
    assert faults == {"table": [("dog",)], "folders": [("cat",)]}
    with pytest.raises(DataError, match=r"no \.json in it"):
        read(Source(tmp_path, format="coco"))


def test_a_tag_that_no_class_can_have_is_a_fault(table: Callable[..., Path], read: Reader):
    path = table({"1.jpg": "cat;polar|bear", "2.jpg": "cat", "3.jpg": "background", "4.jpg": "cat"})
    path.with_name("4.jpg").unlink()
    listed = read(Source(path))
    assert {Path(name).name: tags for name, tags in listed.tags.items()} == {
        "1.jpg": ("cat",), "2.jpg": ("cat",), "3.jpg": ("background",),
    }  # fmt: skip
    faults = {fault.where.rpartition("/")[2]: fault.why for fault in listed.faults}
    assert set(faults) == {"tags.csv:2", "tags.csv:5"}
    assert "'polar|bear'" in faults["tags.csv:2"]


def test_no_classes_are_all(table: Callable[..., Path], read: Reader):
    path = table({"1.jpg": "cat", "2.jpg": "dog"})
    assert read(Source(path, classes=())) == read(Source(path))


def test_classes_are_named_in_any_spelling(table: Callable[..., Path], read: Reader):
    path = table({"1.jpg": "Polar_bear;cat", "2.jpg": "polar-bear", "3.jpg": "dog"})
    listed = read(Source(path, classes=("polar bear",)))
    assert [tags for tags in listed.tags.values() if tags] == [("Polar_bear",), ("Polar_bear",)]
