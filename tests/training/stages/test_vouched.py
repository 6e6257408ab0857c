"""What stages make of a correction."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tagmask import files
from tagmask.corrections import Correction
from tagmask.masks import VOID
from training.config import load_config
from training.datasets.photos import Photo, TaggedPhotos
from training.stages import seeds, superpixels
from training.stages.evidence import Evidence
from training.stages.superpixels import Superpixels
from training.stages.vouched import known_shares, limit, possible_labels, vouched_labels, vouched_regions

CLASSES = ("cat", "dog", "owl")
NAMES = ("background", *CLASSES)


def photo(mask: list[list[int]], tags: tuple[str, ...] = ("cat", "owl"), complete: tuple[str, ...] = ()) -> Photo:
    return Photo("1", Path("1.png"), tags, correction=Correction.of(np.array(mask, dtype=np.uint8), NAMES, complete))


def test_a_pixel_can_have_the_label_that_is_vouched_for_and_others_any_of_the_photo():
    possible = possible_labels(photo([[0, 1, 3, VOID]]), CLASSES, (1, 4))
    assert_array_equal(possible, [[[1, 0, 0, 1]], [[0, 1, 0, 1]], [[0, 0, 1, 1]]])


def test_nothing_else_is_of_a_class_that_is_complete():
    possible = possible_labels(photo([[1, VOID]], complete=("Cat",)), CLASSES, (1, 2))
    assert_array_equal(possible, [[[0, 1]], [[1, 0]], [[0, 1]]])


def test_where_all_classes_are_complete_the_rest_is_background():
    assert_array_equal(vouched_labels(photo([[3, VOID]], complete=("cat", "owl")), CLASSES, (1, 2)), [[3, 0]])
    assert_array_equal(vouched_labels(photo([[3, VOID]], complete=("owl",)), CLASSES, (1, 2)), [[3, VOID]])


def test_a_class_that_is_not_among_the_tags_is_not_said():
    assert_array_equal(vouched_labels(photo([[2, 1]]), CLASSES, (1, 2)), [[VOID, 1]])


def test_without_a_correction_nothing_is_vouched_for():
    plain = Photo("1", Path("1.png"), ("cat",))
    assert possible_labels(plain, CLASSES, (2, 3)) is None
    assert_array_equal(vouched_labels(plain, CLASSES, (2, 3)), np.full((2, 3), VOID))


def test_labels_are_scaled_to_the_size_of_the_stage():
    assert_array_equal(vouched_labels(photo([[0, 1], [3, VOID]]), CLASSES, (2, 4)), [[0, 0, 1, 1], [3, 3, VOID, VOID]])


def test_shares_are_told_by_photos_that_are_said_as_a_whole():
    strokes = photo([[1, 1, VOID, VOID]], ("cat",))
    whole = photo([[0, 0, 0, 1]], ("cat",)), photo([[0, 0, 1, 1]], ("cat",)), photo([[0, 0, 0, 0]], ())
    plain = Photo("2", Path("2.png"), ("cat", "owl"))
    shares, photos = known_shares(TaggedPhotos(Path(), CLASSES, (strokes, *whole, plain)), 4)
    # Cats cover 3 of 8 pixels of the photos that tell it, and are on four of five photos.
    np.testing.assert_allclose(shares, [9 / 12, 0.8 * 3 / 8, 0, 0])
    assert_array_equal(photos, [3, 2, 0, 0])


def test_shares_of_a_large_photo_take_little_memory():
    mask = np.zeros((1500, 2000), dtype=np.uint8)
    mask[:, 500:] = 1
    large = Photo("1", Path("1.png"), ("cat",), correction=Correction.of(mask, NAMES))
    tracemalloc.start()
    shares, _ = known_shares(TaggedPhotos(Path(), CLASSES, (large,)), 320)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(shares, [0.25, 0.75, 0, 0])
    assert peak < 6 * mask.size


def test_probabilities_are_limited_to_what_is_possible():
    probabilities = np.array([[[0.5, 0.0]], [[0.3, 0.5]], [[0.2, 0.5]]], dtype=np.float32)
    assert limit(probabilities, None) is probabilities
    possible = np.array([[[False, True]], [[True, False]], [[True, False]]])
    np.testing.assert_allclose(limit(probabilities, possible)[:, 0], [[0, 1], [0.6, 0], [0.4, 0]], atol=1e-6)


def test_a_superpixel_is_of_the_label_of_most_of_its_vouched_pixels():
    regions = np.array([[0, 0, 0, 0, 0, 1, 1, 2, 2]])
    labels, said = vouched_regions(photo([[1, 1, 1, 1, 0, 0, 3, VOID, VOID]]), CLASSES, regions)
    assert_array_equal(labels, [1, VOID, VOID])
    assert_array_equal(said, [True, True, False])


@pytest.mark.parametrize(
    ("mask", "complete", "expected"),
    [
        ([[VOID] * 8], (), [0, 1, 3, VOID]),  # as the evidence has it
        ([[1, 1, VOID, VOID, VOID, VOID, VOID, 0]], (), [1, 1, 3, 0]),  # a few pixels of a superpixel are enough
        ([[1, 0, VOID, VOID, VOID, VOID, VOID, VOID]], (), [VOID, 1, 3, VOID]),  # half of each is neither
        ([[1, 1, VOID, VOID, VOID, VOID, VOID, VOID]], ("cat",), [1, VOID, 3, VOID]),  # no other is a cat
        ([[1, 1, VOID, VOID, VOID, VOID, VOID, VOID]], ("cat", "owl"), [1, 0, 0, 0]),
    ],
)
def test_superpixels_of_vouched_pixels_are_seeds(
    tmp_path: Path, mask: list[list[int]], complete: tuple[str, ...], expected: list[int]
):
    """Four superpixels of two pixels, which the evidence has as background, cat, owl and void."""
    corrected = photo(mask, complete=complete)
    superpixels.write(Superpixels.file_of(corrected, tmp_path), np.array([[0, 0, 1, 1, 2, 2, 3, 3]]))
    odds = np.array([[-9, -9], [3, -9], [-9, 3], [-1, -1]], dtype=np.float16)
    files.write_array(Evidence.file_of(corrected, tmp_path, 1), odds)
    config = load_config(overrides={"seeds.object_above": 0.6, "seeds.background_below": 0.1})
    seeds.Seeds.of(config, 1).run(corrected, tmp_path, CLASSES)
    assert_array_equal(seeds.read(corrected, tmp_path, 1), expected)
