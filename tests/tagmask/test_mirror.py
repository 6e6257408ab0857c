"""Copies of data in object storage: with objects in memory, and on a real S3 server."""

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain

import obstore
import pytest
from obstore.store import ObjectStore

from tagmask import objects
from tagmask.errors import ConfigError, DataError, ObjectStorageError, RunError
from tagmask.mirror import local_copies
from tagmask.objects import Objects
from tests import ceph
from tests.faults import Proxy
from tests.tagmask.test_inbox import photo
from training.datasets import load
from training.datasets.check import check

CAT, DOG = photo(), photo(red=90)
URL = "s3://bucket/prefix"


@pytest.fixture
def store(memory: str) -> ObjectStore:
    """What is below URL."""
    assert memory == URL
    return objects.open_objects(URL, objects.PATIENCE)


@pytest.fixture
def transferred(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each object was requested."""
    counts: Counter[str] = Counter()
    for method in ("get", "read"):
        original = getattr(Objects, method)

        def counted(self: Objects, name: str, *others: object, original: object = original) -> object:
            counts[name] += 1
            return original(self, name, *others)  # type: ignore[operator]

        monkeypatch.setattr(Objects, method, counted)
    return counts


def put(store: ObjectStore, **files: bytes) -> None:
    for name, data in files.items():
        obstore.put(store, name.replace("__", "/") + ".jpg", data)


def copied(url: str = URL) -> dict[str, bytes]:
    with local_copies([url]) as (folder,):
        files = (path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_only_what_is_new_or_changed_is_transferred(store: ObjectStore, transferred: Counter[str]) -> None:
    put(store, cat__1=CAT, cat__2=CAT, dog__3=DOG)
    assert copied() == {"cat/1.jpg": CAT, "cat/2.jpg": CAT, "dog/3.jpg": DOG}
    transferred.clear()
    copied()
    assert transferred == {}
    put(store, cat__2=DOG, dog__4=CAT)
    obstore.delete(store, "dog/3.jpg")
    assert copied() == {"cat/1.jpg": CAT, "cat/2.jpg": DOG, "dog/4.jpg": CAT}
    assert transferred == {"cat/2.jpg": 1, "dog/4.jpg": 1}


def test_a_copy_that_others_removed_or_cut_is_made_again(store: ObjectStore) -> None:
    put(store, cat__1=CAT, dog__2=DOG)
    with local_copies([URL]) as (folder,):
        (folder / "cat/1.jpg").unlink()
        (folder / "dog/2.jpg").write_bytes(DOG[:-1])
    assert copied() == {"cat/1.jpg": CAT, "dog/2.jpg": DOG}


def test_any_layout_is_read(store: ObjectStore) -> None:
    put(store, cat__1=CAT, dog__2=DOG)
    data = load(URL)
    assert [(each.id, each.tags) for each in data.photos] == [("cat/1", ("cat",)), ("dog/2", ("dog",))]
    obstore.put(store, "tags.csv", b"image,tags\ncat/1.jpg,owl\n")
    for place in (URL, f"{URL}/tags.csv"):
        assert [(each.id, each.tags) for each in load(place).photos] == [("cat/1", ("owl",))]


def test_names_are_kept_and_hidden_objects_left_out(store: ObjectStore) -> None:
    for name in ("a b#%20é.jpg", ".git/config", "x/.hidden", ".forgotten/" + "0" * 64):
        obstore.put(store, name, b"1")
    assert set(copied()) == {"a b#%20é.jpg", ".forgotten/" + "0" * 64}


def test_objects_that_stand_for_folders_are_left_out(store: ObjectStore) -> None:
    for name, data in {"cat": b"", "cat/1.jpg": CAT, "empty": b"", "empty.jpg": b""}.items():
        obstore.put(store, name, data)
    assert copied() == {"cat/1.jpg": CAT, "empty.jpg": b""}


def test_an_object_that_stands_for_the_whole_prefix_is_left_out(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3's console makes one, `prefix/`, which the library lists by an empty name, and cannot make."""
    put(store, cat__1=CAT)
    folder, listed = {"path": "", "size": 0, "e_tag": "1"}, Objects.list
    monkeypatch.setattr(Objects, "list", lambda self: chain([folder], listed(self)))
    assert copied() == {"cat/1.jpg": CAT}


def test_a_damaged_record_of_the_copy_is_told(store: ObjectStore) -> None:
    with local_copies([URL]) as (folder,):
        (folder.parent / "objects.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(RunError, match=rf"the copy of {URL}: file is not a database; .* remove that folder"):
        copied()


def test_errors_name_the_url(store: ObjectStore) -> None:
    put(store, cat__1=CAT)
    with pytest.raises(DataError, match=rf"^{URL}: no photo is tagged 'dog'"):
        load(URL, classes=["dog"])
    with pytest.raises(DataError, match=rf"^{URL}: no split 'val'"):
        load(URL, split="val")
    with pytest.raises(DataError, match=r"^s3://bucket/none: "):
        load("s3://bucket/none")


def test_data_that_was_read_is_called_by_its_urls(
    store: ObjectStore, command: Callable[..., tuple[int, str, str]]
) -> None:
    put(store, cat__1=CAT)
    assert command("data", "check", URL)[1].startswith(f"{URL}  one folder per class: 1 photo, 1 class")
    others = "s3://bucket/others"
    put(objects.open_objects(others, objects.PATIENCE), dog__1=b"no photo")
    for named in ([others], [URL, others]):
        message = f"{', '.join(named)}: class 'dog' has no readable photo left"
        with pytest.raises(DataError, match=f"^{message}"):
            check(load(named), workers=1)


def test_more_than_the_cache_may_take_is_refused(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, cat__1=CAT, dog__2=DOG)
    monkeypatch.setenv("TAGMASK_CACHE_BYTES", str(len(CAT + DOG) - 1))
    with pytest.raises(ConfigError, match=rf"^{URL}: more than .* bytes.*TAGMASK_CACHE; set TAGMASK_CACHE_BYTES"):
        load(URL)
    monkeypatch.setenv("TAGMASK_CACHE_BYTES", str(len(CAT + DOG)))
    assert len(load(URL).photos) == 2


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Objects whose content breaks off."""
    names: list[str] = []
    parts = Objects._parts

    def broken_off(self: Objects, name: str, found: object) -> Iterator[bytes]:
        yield from parts(self, name, found)  # type: ignore[arg-type]
        if name in names:
            raise ObjectStorageError(name)

    monkeypatch.setattr(Objects, "_parts", broken_off)
    return names


def test_a_transfer_that_breaks_off_leaves_the_old_file(store: ObjectStore, broken: list[str]) -> None:
    put(store, cat__1=CAT, dog__2=DOG)
    with local_copies([URL]) as (folder,):
        pass
    put(store, cat__1=DOG)
    broken.append("cat/1.jpg")
    with pytest.raises(ObjectStorageError):
        copied()
    assert [path.read_bytes() for path in sorted(folder.rglob("*.jpg"))] == [CAT, DOG]
    broken.clear()
    assert copied() == {"cat/1.jpg": DOG, "dog/2.jpg": DOG}


@pytest.mark.parametrize("fault", ["503", "cut", "cut after"])
def test_a_fault_that_passes_changes_nothing(s3: Proxy, fault: str) -> None:
    url = f"s3://{ceph.BUCKET}/mirrored/{fault.replace(' ', '-')}"
    written = Objects(url)
    for number in range(12):
        written.write(f"cat/é {number}#%20.jpg", CAT + bytes(number))
    s3.faults += [("GET", fault)] * 3  # type: ignore[list-item]
    assert copied(url) == {f"cat/é {number}#%20.jpg": CAT + bytes(number) for number in range(12)}
    assert s3.faults == []
    s3.seen.clear()
    copied(url)
    assert s3.seen == [("GET", 200)]
