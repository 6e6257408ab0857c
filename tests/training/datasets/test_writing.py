"""What all formats do alike, and the copies of photos."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from tagmask.errors import DataError
from tagmask.photos import read_photo
from tests.training.datasets.masked import MASKS, Pixels, masked
from training.datasets.copies import copy_photo, flat_names
from training.datasets.photos import Photo, TaggedPhotos
from training.datasets.writing import OutputFormat, write

FORMATS: tuple[OutputFormat, ...] = get_args(OutputFormat)


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_data_gives_the_same_files(data: TaggedPhotos, tmp_path: Path, form: OutputFormat):
    advances: list[int] = []
    write(data, tmp_path / "one", form, advance=advances.append)
    assert sum(advances) == len(data.photos)
    moved = masked(tmp_path / "moved")
    write(moved, tmp_path / "other", form)
    write(moved, tmp_path / "other", form)
    written = files(tmp_path / "one")
    assert files(tmp_path / "other") == written
    assert not any(str(tmp_path).encode() in content for content in written.values())


@pytest.mark.parametrize("form", FORMATS)
def test_photos_without_masks_are_left_out(data: TaggedPhotos, tmp_path: Path, form: OutputFormat):
    write(replace(data, photos=data.photos[1:]), tmp_path / "less", form)
    photos = (replace(data.photos[0], mask=None), *data.photos[1:])
    write(replace(data, photos=photos), tmp_path / "some", form)
    assert files(tmp_path / "some") == files(tmp_path / "less")


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
    with pytest.raises(DataError, match="'cat/1' and 'cat_1' would both be called 'cat_1'"):
        flat_names([one, other])


@pytest.mark.parametrize("form", ["voc", "yolo", "datumaro"])
def test_formats_with_photos_have_them_in_the_size_of_their_masks(tmp_path: Path, turned: Photo, form: OutputFormat):
    upright: Pixels = MASKS["cat/ring"][:9, :6]
    data = masked(tmp_path / "data", {"turned": np.ascontiguousarray(upright)})
    shutil.copy(turned.path, data.photos[0].path)
    write(data, tmp_path / "out", form)
    (copy,) = (path for path in (tmp_path / "out").rglob("*.jpg"))
    with Image.open(copy) as image:
        assert image.size == (6, 9)
