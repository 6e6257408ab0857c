"""Accuracy on corrected photos, and its interval."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tagmask.corrections import Correction
from tagmask.masks import VOID
from tagmask.scores import Measured
from tagmask.segmenter import Segmenter
from tests.training.colour_bundle import COLOURS, write_colour_bundle
from training.datasets.photos import Photo
from training.evaluation.corrected import count_pixels, gain_interval, measure, miou_interval, mious

NAMES = ("background", "cat", "dog")


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    path = write_colour_bundle(tmp_path_factory.mktemp("bundle") / "model.onnx")
    return Segmenter.load(path, device="cpu", threads=1)


def photo(root: Path, name: str, shown: list[int], said: list[int], tags: tuple[str, ...] = ("cat",)) -> Photo:
    """Blocks of 32 pixels: what the bundle sees, and what a person says."""
    path = root / f"{name}.png"
    colours = np.array(list(COLOURS.values()), dtype=np.uint8)[np.array([shown])]
    Image.fromarray(colours.repeat(32, axis=0).repeat(32, axis=1)).save(path)
    mask = np.array([said], dtype=np.uint8).repeat(32, axis=0).repeat(32, axis=1)
    return Photo(name, path, tags, correction=Correction.of(mask, NAMES))


def test_only_pixels_that_are_said_count(segmenter: Segmenter, tmp_path: Path):
    photos = [
        photo(tmp_path, "a", [0, 1, 2, 2], [0, 1, 1, VOID]),
        photo(tmp_path, "b", [1, 1, 0, 0], [VOID, VOID, VOID, VOID]),
    ]
    without_tags, with_tags = count_pixels(segmenter, photos, ("cat", "dog"))
    block = 32 * 32
    assert without_tags.tolist() == [[[block, block, block], [block, 2 * block, block], [0, 0, block]]]
    # Limited to cat and background, what looks like a dog is one of them.
    assert with_tags[0, :, 1].tolist() == [block, 2 * block, 0]
    assert with_tags[0, 2].tolist() == [0, 0, 0]
    assert mious(without_tags.sum(axis=0)) == pytest.approx((100 + 50) / 2)


def test_a_class_that_the_bundle_does_not_know_is_hit_nowhere(segmenter: Segmenter, tmp_path: Path):
    path = photo(tmp_path, "a", [0, 1], [0, 1]).path
    owl = Correction.of(
        np.repeat(np.array([[0, 1]], dtype=np.uint8), 32, axis=1).repeat(32, axis=0), ("background", "owl")
    )
    pixels, _ = count_pixels(segmenter, [Photo("a", path, ("owl",), correction=owl)], ("cat", "dog", "owl"))
    assert pixels[0, 3].tolist() == [0, 32 * 32, 0]


def test_the_measured_figures(segmenter: Segmenter, tmp_path: Path):
    photos = [photo(tmp_path, f"{number}", [0, 1, 1], [0, 1, number % 2]) for number in range(6)]
    measured = measure(segmenter, photos)
    assert measured
    assert measured.photos == 6
    assert measured.without_tags.value == pytest.approx((100 * 6 / 9 + 100 * 9 / 12) / 2)
    assert measured.with_tags == measured.without_tags
    assert 50 <= measured.with_tags.low < measured.with_tags.value < measured.with_tags.high <= 100
    assert measure(segmenter, photos) == measured
    assert measure(segmenter, photos[:1]) is None
    assert str(measured).startswith("measured on 6 corrected photos: mIoU 71 (")
    assert Measured.from_json(
        {"photos": 1, "without_tags": vars(measured.with_tags), "with_tags": vars(measured.with_tags)}
    )


def test_an_interval_holds_the_true_figure_of_most_draws_and_narrows_with_more_photos():
    random = np.random.default_rng(1)
    true = random.integers(1, 400, (2000, 3))
    hit = (true * random.beta(6, 2, true.shape)).astype(np.int64)
    pixels = np.stack([hit, true, hit + random.integers(0, 60, true.shape)], axis=-1)
    truth, held, widths = float(mious(pixels.sum(axis=0))), 0, []
    for _ in range(100):
        interval = miou_interval(pixels[random.choice(2000, 20, replace=False)])
        held += interval.low <= truth <= interval.high
        widths.append(interval.high - interval.low)
    assert held >= 90
    many = miou_interval(pixels[:320])
    assert many.high - many.low < np.mean(widths) / 3


def test_a_gain_is_that_of_the_same_photos():
    before = np.array([[[50, 100, 100]], [[80, 100, 100]], [[20, 100, 100]]], dtype=np.int64)
    assert vars(gain_interval(before, before)) == {"value": 0, "low": 0, "high": 0}
    better = before + np.array([10, 0, 0])
    gain = gain_interval(better, before)
    assert gain.value == pytest.approx(100 * (180 / 420 - 150 / 450))
    assert 0 < gain.low < gain.value < gain.high
