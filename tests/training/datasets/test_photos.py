from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tagmask.errors import DataError
from tagmask.masks import read_mask
from training.datasets import photos
from training.datasets.photos import Photo, TaggedPhotos, read_photo, scaled_size

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


def test_too_many_pixels_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (11, 10)).save(tmp_path / "a.png")
    monkeypatch.setattr(photos, "MAX_PIXELS", 109)
    with pytest.raises(DataError, match=r"a\.png: 11x10 pixels"):
        read_photo(tmp_path / "a.png")


def test_unreadable_photos_are_named(tmp_path: Path) -> None:
    Image.effect_noise((64, 64), 90).save(tmp_path / "cut.jpg")
    whole = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("no photo")
    for name in ("cut.jpg", "text.jpg", "absent.jpg"):
        with pytest.raises(DataError, match=name):
            read_photo(tmp_path / name)


def test_masks_are_palette_or_grey(tmp_path: Path) -> None:
    values = np.array([[0, 3], [255, 1]], dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "grey.png")
    palette = Image.fromarray(values)
    palette.putpalette([0] * 768)
    palette.save(tmp_path / "palette.png")
    Image.new("RGB", (2, 2)).save(tmp_path / "rgb.png")
    assert read_mask(tmp_path / "grey.png").tolist() == read_mask(tmp_path / "palette.png").tolist() == values.tolist()
    with pytest.raises(DataError, match=r"rgb\.png: a mask must be"):
        read_mask(tmp_path / "rgb.png")
    with pytest.raises(DataError, match=r"absent\.png"):
        read_mask(tmp_path / "absent.png")


def test_labels_counts_and_digest(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(name.encode())
    one = Photo("a", tmp_path / "a.jpg", ("cat", "dog"))
    two = Photo("b", tmp_path / "b.jpg", ("cat",))
    data = TaggedPhotos(tmp_path, ("dog", "owl", "cat"), (one, two))
    assert data.labels(one) == (0, 1, 3)
    assert data.labels(two) == (0, 3)
    assert list(data.photos_per_class().items()) == [("dog", 1), ("owl", 0), ("cat", 2)]
    before = data.digest()
    (tmp_path / "b.jpg").write_bytes(b"other")
    assert data.digest() != before
