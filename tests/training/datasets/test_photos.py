import hashlib
from pathlib import Path

from training.datasets.photos import Photo, TaggedPhotos, rename_tags

TAGS = ("cat dog", "cat dog", "Dog owl")


def test_labels_counts_and_digest(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(name.encode())
    one = Photo("a", tmp_path / "a.jpg", ("cat", "dog"))
    two = Photo("b", tmp_path / "b.jpg", ("cat",))
    data = TaggedPhotos(tmp_path, ("dog", "owl", "cat"), (one, two))
    assert one.labels(data.classes) == (0, 1, 3)
    assert two.labels(data.classes) == (0, 3)
    assert list(data.photos_per_class().items()) == [("dog", 1), ("owl", 0), ("cat", 2)]
    before, contents = data.digest(), data.photo_digests()
    assert contents == tuple(hashlib.sha256(name.encode()).hexdigest() for name in ("a.jpg", "b.jpg"))
    (tmp_path / "b.jpg").write_bytes(b"other")
    assert data.digest() != before
    assert data.digest(contents) == before


def test_photos_that_tell_of_some_classes(tmp_path: Path) -> None:
    tags = {"a": ("cat", "dog"), "b": ("owl",), "c": (), "d": ("Cat",)}
    data = TaggedPhotos(tmp_path, ("cat", "dog", "owl"), tuple(Photo(each, tmp_path, tags[each]) for each in tags))
    assert [photo.id for photo in data.tagged(["CAT"])] == ["a", "d"]
    assert [photo.id for photo in data.relevant(["CAT"])] == ["a", "c", "d"]


def test_without_corrections_the_digest_is_that_of_earlier_versions(tmp_path: Path) -> None:
    for name in "12":
        (tmp_path / f"{name}.jpg").write_bytes(name.encode())
    photos = (Photo("a/1", tmp_path / "1.jpg", ("cat", "dog")), Photo("a/2", tmp_path / "2.jpg", ()))
    digest = "50e2d4e5488e9f71fbbee89b93579678bc9971f44593775b9f1663a1ad9eb1e0"
    assert TaggedPhotos(tmp_path, ("cat", "dog"), photos).digest() == digest


def test_photos_with_the_same_tags_share_them(tmp_path: Path) -> None:
    one, two, three = (Photo(name, tmp_path, tuple(tags.split())) for name, tags in zip("abc", TAGS, strict=True))
    first, second, third = rename_tags([one, two, three], {"cat": "cat", "dog": "dog", "Dog": "dog"})
    assert first is one
    assert (second.id, second.tags) == ("b", ("cat", "dog"))
    assert second.tags is first.tags
    assert third.tags == ("dog",)
