"""What all formats do alike, and the copies of photos."""

import shutil
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import cast, get_args

import numpy as np
import pytest
from PIL import Image

from tagmask.errors import DataError
from tagmask.photos import read_photo
from tests.odd_masks import blobs
from tests.training.datasets.masked import MASKS, Pixels, masked
from training.choices import OutputFormat
from training.datasets import Format, load
from training.datasets.copies import copy_photo, flat_names
from training.datasets.photos import Photo, TaggedPhotos
from training.datasets.writing import write

FORMATS: tuple[OutputFormat, ...] = get_args(OutputFormat)


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_data_gives_the_same_files(data: TaggedPhotos, tmp_path: Path, form: OutputFormat):
    advances: list[int] = []
    write(data, tmp_path / "one", form, advance=advances.append)
    assert sum(advances) == len(data.photos)
    moved = masked(tmp_path / "moved" / data.root.name)
    write(moved, tmp_path / "other", form)
    write(moved, tmp_path / "other", form)
    written = files(tmp_path / "one")
    assert files(tmp_path / "other") == written
    assert not any(str(tmp_path).encode() in content for content in written.values())


ODD_NAMES = (
    "a b", "zoo/cat/1", "farm/1", "\xf6 l/\xf1and\xfa", "猫/😀", "100% #1", "it's & \"x\" <y>", "-dash", "a.b.c",
    "images/x", "plus+sign", "semi;colon", "q?x", "train/5", "ve\u0301lo", ".hidden/x",
)  # fmt: skip


@pytest.fixture
def odd(tmp_path: Path) -> TaggedPhotos:
    """Photos whose names are hard to list."""
    return masked(tmp_path / "data", {name: blobs(20, 30, seed=seed) for seed, name in enumerate(ODD_NAMES)})


@pytest.mark.parametrize("form", [form for form in FORMATS if form in get_args(Format)])
def test_tagmask_reads_back_what_it_writes(odd: TaggedPhotos, tmp_path: Path, form: Format):
    write(odd, tmp_path / "out", cast(OutputFormat, form), photos=True)
    read = load(tmp_path / "out", format=form)
    assert read.faults == ()
    flat = flat_names(odd.photos) if form in ("voc", "yolo") else {}
    expected = {unicodedata.normalize("NFC", flat.get(each.id, each.id)): each for each in odd.photos}
    found = {photo.id.removeprefix("train/") if photo.id not in expected else photo.id: photo for photo in read.photos}
    assert {name: photo.tags for name, photo in found.items()} == {name: each.tags for name, each in expected.items()}
    for name, photo in found.items():
        assert photo.path.read_bytes() == expected[name].path.read_bytes()


@pytest.mark.parametrize("form", ["coco", "voc", "datumaro", "cvat"])
def test_datumaro_finds_photos_and_masks_as_they_are_written(odd: TaggedPhotos, tmp_path: Path, form: OutputFormat):
    datumaro = pytest.importorskip("datumaro")
    write(odd, tmp_path / "out", form, photos=True)
    items = list(datumaro.Dataset.import_from(str(tmp_path / "out"), form))
    assert len(items) == len(odd.photos)
    for item in items:
        assert item.media.data.shape[:2] == (20, 30)
        assert item.annotations


@pytest.mark.parametrize("form", FORMATS)
def test_photos_without_masks_are_left_out(data: TaggedPhotos, tmp_path: Path, form: OutputFormat):
    write(replace(data, photos=data.photos[1:]), tmp_path / "less", form)
    photos = (replace(data.photos[0], mask=None), *data.photos[1:])
    write(replace(data, photos=photos), tmp_path / "some", form)
    assert files(tmp_path / "some") == files(tmp_path / "less")


@pytest.mark.parametrize("form", FORMATS)
def test_a_name_that_other_tools_read_as_another_is_refused(tmp_path: Path, form: OutputFormat):
    data = masked(tmp_path / "data", {"cat\\1": MASKS["cat/ring"]})
    with pytest.raises(DataError, match=r"photo '.*': other tools read \\ as /; rename the photo"):
        write(data, tmp_path / "out", form)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_interrupted_leaves_nothing_half_written(data: TaggedPhotos, tmp_path: Path, form: OutputFormat):
    write(data, tmp_path / "complete", form)
    complete = files(tmp_path / "complete")

    def stop(photos: int) -> None:
        if next(left) == 0:
            raise KeyboardInterrupt

    left = iter(range(5, -1, -1))
    with pytest.raises(KeyboardInterrupt):
        write(data, tmp_path / "out", form, advance=stop)
    assert files(tmp_path / "out").items() <= complete.items()
    write(data, tmp_path / "out", form)
    assert files(tmp_path / "out") == complete


@pytest.fixture
def turned(tmp_path: Path) -> Photo:
    """A photo that is stored lying on its side: 6 high and 9 wide, displayed 9 high and 6 wide."""
    pixels = np.zeros((6, 9, 3), dtype=np.uint8)
    pixels[:, :4] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    return Photo("turned", tmp_path / "turned.png", ("cat",))


def test_a_photo_that_is_turned_by_exif_is_written_upright(turned: Photo, tmp_path: Path):
    assert copy_photo(turned, tmp_path / "out", "a") == "a.jpg"
    with Image.open(tmp_path / "out/a.jpg") as image:
        assert not image.getexif()
        np.testing.assert_allclose(np.asarray(image, dtype=int), read_photo(turned.path), atol=60)
        assert image.size == (6, 9)


@pytest.mark.parametrize(
    ("form", "name", "media_types", "expected"),
    [
        ("JPEG", "a.jpeg", ("image/jpeg", "image/png"), "x.jpg"),
        ("PNG", "a.jpg", ("image/jpeg", "image/png"), "x.png"),
        ("PNG", "a.png", ("image/jpeg",), "x.jpg"),
        ("WEBP", "a.webp", ("image/jpeg", "image/png"), "x.jpg"),
        ("GIF", "a.gif", ("image/jpeg", "image/png"), "x.jpg"),
    ],
)
def test_a_copy_is_called_what_it_is(tmp_path: Path, form: str, name: str, media_types: tuple[str, ...], expected: str):
    path = tmp_path / name
    Image.new("RGB", (9, 6), (200, 10, 10)).save(path, form)
    photo = Photo("a", path, ())
    assert copy_photo(photo, tmp_path / "out", "x", media_types) == expected
    copied = tmp_path / "out" / expected
    assert (copied.read_bytes() == path.read_bytes()) == (Image.MIME[form] in media_types)
    with Image.open(copied) as image:
        assert image.format == ("PNG" if expected.endswith("png") else "JPEG")
    before = copied.stat().st_mtime_ns
    copy_photo(photo, tmp_path / "out", "x", media_types)
    assert copied.stat().st_mtime_ns == before


def test_a_photo_that_is_gone_is_named(data: TaggedPhotos, tmp_path: Path):
    shutil.rmtree(data.root / "images/cat")
    with pytest.raises(DataError, match=r"images/cat/.*: photo not found; put it back"):
        write(data, tmp_path / "out", "yolo")


def test_names_without_folders_never_meet(tmp_path: Path):
    one, other = Photo("cat/1", tmp_path, ()), Photo("cat_1", tmp_path, ())
    assert flat_names([one]) == {"cat/1": "cat_1"}
    assert list(flat_names([Photo(".my cat/a\u3000b", tmp_path, ())]).values()) == ["_my_cat_a_b"]
    with pytest.raises(DataError, match="'cat/1' and 'cat_1' would both be called 'cat_1'"):
        flat_names([one, other])
    with pytest.raises(DataError, match=r"photo 'a{40}'…: its name and its folders are too long in one name"):
        flat_names([Photo(f"{'a' * 200}/{'b' * 51}", tmp_path, ())])


@pytest.mark.parametrize("form", FORMATS)
def test_formats_with_photos_have_them_in_the_size_of_their_masks(tmp_path: Path, turned: Photo, form: OutputFormat):
    upright: Pixels = MASKS["cat/ring"][:9, :6]
    data = masked(tmp_path / "data", {"turned": np.ascontiguousarray(upright)})
    shutil.copy(turned.path, data.photos[0].path)
    write(data, tmp_path / "out", form, photos=True)
    (copy,) = (path for path in (tmp_path / "out").rglob("*.jpg"))
    with Image.open(copy) as image:
        assert image.size == (6, 9)
