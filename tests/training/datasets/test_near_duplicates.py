import io

import numpy as np
import pytest
from PIL import Image

from examples.demo.drawing.picture import draw
from training.datasets.near_duplicates import Fingerprint, fingerprint, near_duplicates


def photo(seed: int, thing: str = "fish") -> np.ndarray:
    return draw((thing,), 160, np.random.default_rng(seed))[0]


def as_jpeg(pixels: np.ndarray, quality: int = 60) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file))


def scaled(pixels: np.ndarray, share: float) -> np.ndarray:
    height, width = (round(side * share) for side in pixels.shape[:2])
    return np.array(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))


def cropped(pixels: np.ndarray) -> np.ndarray:
    return pixels[2:-2, 2:-2]


def pairs(*photos: np.ndarray) -> list[tuple[int, int, float]]:
    return list(near_duplicates([fingerprint(each) for each in photos], range(len(photos))))


@pytest.mark.parametrize(
    "change", [as_jpeg, cropped, lambda pixels: scaled(pixels, 0.4), lambda pixels: scaled(as_jpeg(pixels), 2.5)]
)
def test_copies_are_found_among_other_photos(change):
    others = [photo(seed) for seed in range(1, 12)]
    for first, second, similarity in pairs(photo(0), *others, change(photo(0))):
        assert (first, second) == (0, 12)
        assert 0.87 < similarity <= 1
    assert len(pairs(photo(0), *others, change(photo(0)))) == 1


def test_the_same_pixels_are_as_similar_as_can_be():
    assert pairs(photo(0), photo(1), photo(0)) == [(0, 2, 1.0)]


def test_the_same_shape_in_another_colour_is_another_photo():
    assert pairs(photo(0), photo(0)[:, :, ::-1]) == []
    red, blue = (np.full((40, 60, 3), colour, dtype=np.uint8) for colour in ((200, 40, 40), (40, 60, 190)))
    assert pairs(red, blue) == []


def test_photos_of_one_group_are_not_compared_and_each_is_told_once():
    same = [fingerprint(photo(0))] * 4
    assert list(near_duplicates(same, ["cat"] * 4)) == []
    assert list(near_duplicates(same, ["cat", "dog", "cat", "dog"])) == [(0, 1, 1.0), (1, 2, 1.0), (2, 3, 1.0)]


def test_the_most_similar_one_is_told():
    one = fingerprint(photo(0))
    near, nearer = (Fingerprint(one.hash ^ bits, one.thumbnail) for bits in (0b111, 1))
    assert list(near_duplicates([one, near, nearer], "abb")) == [(0, 2, 1 - 1 / 64)]


def test_photos_of_a_texture_in_the_same_light_are_different_photos():
    light = np.linspace(80, 120, 64).round().astype(np.int16)[:, None].repeat(3, axis=1)  # contrast 10
    spot = np.zeros_like(light)
    one, fainter, stronger = (Fingerprint(0, light + each) for each in (spot, spot + 1, spot + 3))
    assert list(near_duplicates([one, fainter, stronger], "aab")) == [(1, 2, 1.0)]
    assert list(near_duplicates([one, stronger], "ab")) == []


def test_no_photos_have_no_duplicates():
    assert list(near_duplicates([], [])) == []
