"""`tagmask.photos.read_photo`: photos in files."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tagmask import photos
from tagmask.errors import DataError
from tagmask.photos import decode, decode_file, read_photo, scaled_size

ORIENTATION = 0x0112


@pytest.mark.parametrize(
    ("orientation", "corner"),
    [(1, (0, 0)), (2, (0, -1)), (3, (-1, -1)), (4, (-1, 0)), (5, (0, 0)), (6, (0, -1)), (7, (-1, -1)), (8, (-1, 0))],
)
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, corner: tuple[int, int]) -> None:
    """The stored top left pixel is red; EXIF's definition says where each orientation displays it."""
    stored = np.zeros((3, 5, 3), dtype=np.uint8)
    stored[0, 0] = (255, 0, 0)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    shown = read_photo(tmp_path / "a.png")
    assert shown.shape == ((5, 3, 3) if orientation >= 5 else (3, 5, 3))
    assert tuple(shown[corner]) == (255, 0, 0)
    assert shown.sum() == 255


def test_alpha_is_composed_on_white(tmp_path: Path) -> None:
    rgba = np.array([[[200, 0, 0, 255], [200, 0, 0, 0], [0, 0, 0, 51]]], dtype=np.uint8)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    assert read_photo(tmp_path / "a.png").tolist() == [[[200, 0, 0], [255, 255, 255], [204, 204, 204]]]


def test_transparent_palette_colour_becomes_white(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1]], dtype=np.uint8))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.save(tmp_path / "a.png", transparency=1)
    assert read_photo(tmp_path / "a.png").tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_16_bit_grey_keeps_its_range(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 25700, 65535]], dtype=np.uint16)).save(tmp_path / "a.png")
    assert read_photo(tmp_path / "a.png")[0, :, 0].tolist() == [0, 100, 255]


def test_cmyk_jpeg_becomes_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    shown = read_photo(tmp_path / "a.jpg")
    assert shown.shape == (8, 16, 3)
    assert np.abs(shown.astype(int) - (255, 0, 0)).max() < 12


def test_grey_photo_has_three_equal_channels(tmp_path: Path) -> None:
    Image.fromarray(np.array([[7, 200]], dtype=np.uint8)).save(tmp_path / "a.png")
    assert read_photo(tmp_path / "a.png").tolist() == [[[7] * 3, [200] * 3]]


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_long_side_scales_down_but_not_up(tmp_path: Path, suffix: str) -> None:
    Image.new("RGB", (400, 100)).save(tmp_path / f"a{suffix}")
    assert read_photo(tmp_path / f"a{suffix}", long_side=80).shape == (20, 80, 3)
    assert read_photo(tmp_path / f"a{suffix}", long_side=900).shape == (100, 400, 3)
    assert scaled_size((1000, 1), 10) == (10, 1)


def test_too_many_pixels_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (11, 10)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png: has 11x10 pixels, more than 109; scale it down"):
        photos.decode_file(tmp_path / "a.png", max_pixels=109)
    assert photos.decode_file(tmp_path / "a.png", max_pixels=110).size == (10, 11)


def test_unreadable_photos_are_named(tmp_path: Path) -> None:
    Image.effect_noise((64, 64), 90).save(tmp_path / "cut.jpg")
    photo = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(photo[: len(photo) // 2])
    (tmp_path / "text.jpg").write_text("no photo")
    for name in ("cut.jpg", "text.jpg", "absent.jpg"):
        with pytest.raises(DataError, match=name):
            read_photo(tmp_path / name)


def test_the_message_names_the_file_the_reason_and_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("no photo")
    (tmp_path / "drawing.png").write_text("<svg/>")
    (tmp_path / "pointer.jpg").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    for name, message in (
        ("empty.jpg", "is empty; replace or remove it"),
        ("text.jpg", "is not an image of a known type; replace or remove it"),
        ("drawing.png", "is an SVG drawing, which is not supported; convert it to JPEG or PNG, or remove it"),
        ("pointer.jpg", "is a pointer of Git LFS, whose photo `git lfs pull` fetches; replace or remove it"),
        ("absent.jpg", "photo not found; put it back or remove it from the list"),
    ):
        with pytest.raises(DataError) as refused:
            read_photo(tmp_path / name)
        assert str(refused.value) == f"{tmp_path / name}: {message}"


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    for name in ("pipe.jpg", "folder.jpg"):
        with pytest.raises(DataError, match=rf"{name}: is not a regular file; replace or remove it"):
            read_photo(tmp_path / name)


def test_the_size_limit_is_checked_before_reading(tmp_path: Path) -> None:
    with (tmp_path / "a.jpg").open("wb") as file:
        file.truncate(photos.MAX_BYTES + 1)
    with pytest.raises(
        DataError, match=r"a\.jpg: has 1,000,000,001 bytes, more than 1,000,000,000; make it smaller or remove it"
    ):
        read_photo(tmp_path / "a.jpg")


def test_a_file_and_an_upload_are_decoded_alike(tmp_path: Path) -> None:
    """Of 16 bits with small values too, which is dark wherever it is displayed."""
    grey = np.tile(np.arange(256, dtype=np.uint16), (64, 1))
    for name, values, options in (
        ("dark.png", grey, {}),
        ("bright.png", grey * 257, {}),
        ("clear.png", grey * 257, {"transparency": 0}),
    ):
        Image.fromarray(values).save(tmp_path / name, **options)
        uploaded = decode((tmp_path / name).read_bytes(), long_side=100, max_pixels=10**6)
        np.testing.assert_array_equal(read_photo(tmp_path / name, 100), uploaded.pixels)
    assert read_photo(tmp_path / "dark.png").max() == 0


def test_a_decoded_file_tells_whether_it_was_turned(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.new("RGB", (5, 3)).save(tmp_path / "turned.png", exif=exif)
    Image.new("RGB", (5, 3)).save(tmp_path / "plain.png")
    turned, plain = decode_file(tmp_path / "turned.png"), decode_file(tmp_path / "plain.png")
    assert (turned.turned, turned.size) == (True, (5, 3))
    assert (plain.turned, plain.size) == (False, (3, 5))
