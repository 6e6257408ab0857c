"""Numbers, transparency and palettes as 8-bit RGB on white."""

import io
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from tagmask.photos import decode, rendering


@pytest.mark.parametrize("dtype", [np.int32, np.float32], ids=["I", "F"])
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 128, 255], [0, 128, 255]),  # 0..255 as they are
        ([-7, 3, 200], [0, 3, 200]),
        ([0, 256, 257, 65535], [0, 0, 1, 255]),  # anything above: 0..65535
        ([-300, 514, 70000], [0, 2, 255]),
    ],
)
def test_grey_whose_range_the_file_does_not_state(
    dtype: type[np.number], values: list[int], expected: list[int]
) -> None:
    file = io.BytesIO()
    Image.fromarray(np.array([values], dtype)).save(file, "TIFF")
    pixels = decode(file.getvalue(), long_side=None, max_pixels=99).pixels
    assert pixels[0].tolist() == [[grey] * 3 for grey in expected]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 0.5, 1], [0, 127, 255]),
        ([-0.5, 0.25, 0.5], [0, 63, 127]),
        ([np.nan, np.inf, -np.inf, 0.5], [0, 0, 0, 127]),
        ([np.nan, 100, 255], [0, 100, 255]),
        ([np.nan, 257, 65535], [0, 1, 255]),
    ],
)
@pytest.mark.filterwarnings("error")
def test_floats_from_0_to_1_and_those_that_are_no_number(values: list[float], expected: list[int]) -> None:
    image = Image.fromarray(np.array([values] * 3, np.float32))
    size = (len(values), 3)
    for strip in (1, 100):  # rows looked at one by one, and together
        assert np.asarray(rendering.render(image, "image/tiff", b"", 1, size, strip))[..., 0].tolist() == [expected] * 3


def test_fractions_are_cut_off() -> None:
    image = Image.fromarray(np.array([[0.9, 127.9, 254.99]], np.float32))
    assert np.asarray(rendering.render(image, "image/tiff", b"", 1, (3, 1)))[0, :, 0].tolist() == [0, 127, 254]


@pytest.mark.parametrize(
    ("mode", "pixel", "expected"),
    [
        ("RGBA", (100, 0, 200, 128), (177, 127, 227)),
        ("RGBa", (50, 0, 100, 128), (177, 127, 227)),  # the same, premultiplied
        ("LA", (100, 128), (177, 177, 177)),
        ("La", (50, 128), (177, 177, 177)),
        ("CMYK", (0, 255, 255, 0), (255, 0, 0)),
    ],
)
def test_modes(mode: str, pixel: tuple[int, ...], expected: tuple[int, int, int]) -> None:
    image = Image.new(mode, (2, 1), pixel)
    shown = np.asarray(rendering.render(image, "image/tiff", b"", 1, (2, 1)))
    np.testing.assert_allclose(shown, [[expected] * 2], atol=1)


def test_a_palette_with_alpha() -> None:
    image = Image.new("PA", (1, 1), (1, 0))
    image.putpalette([0, 0, 0, 10, 20, 30])
    assert np.asarray(rendering.render(image, "image/tiff", b"", 1, (1, 1))).tolist() == [[[255, 255, 255]]]


@pytest.mark.parametrize("strip", [1, 100, 1_000, 1_000_000])
def test_strips_make_up_the_photo(strip: int) -> None:
    values = np.random.default_rng(0).integers(0, 256, (37, 50, 3), dtype=np.uint8)
    np.testing.assert_array_equal(rendering.pixels_of(Image.fromarray(values), strip), values)


def test_pixels_take_little_memory_beside_themselves() -> None:
    photo = Image.new("RGB", (3000, 2000))
    tracemalloc.start()
    try:
        pixels = rendering.pixels_of(photo)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * pixels.nbytes
