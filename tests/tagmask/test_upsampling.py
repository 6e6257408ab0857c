import tracemalloc
from unittest.mock import patch

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tagmask import upsampling
from tagmask.upsampling import enlarge_confidence, enlarge_mask, select_labels


@st.composite
def probability_maps(draw: st.DrawFn) -> np.ndarray:
    """(labels, h, w) float32 that sum to 1: noise, blobs, or a few levels with many ties."""
    labels, height, width = draw(st.integers(1, 5)), draw(st.integers(1, 12)), draw(st.integers(1, 12))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scores = random.normal(size=(labels, height, width))
    match draw(st.sampled_from(["noise", "blobs", "ties"])):
        case "blobs":
            scores = np.stack([cv2.GaussianBlur(plane, (0, 0), 2) for plane in scores]) * 10
        case "ties":
            scores = scores.round()
    shares = np.exp(scores)
    return (shares / shares.sum(axis=0)).astype(np.float32)


sizes = st.tuples(st.integers(1, 60), st.integers(1, 60))
in_strips = st.sampled_from([1, 64, 600]).map(lambda pixels: patch.object(upsampling, "_STRIP_PIXELS", pixels))


def plainly_enlarged(probabilities: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    height, width = size
    return np.stack([cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR) for plane in probabilities])


def smooth_map(labels: int, height: int = 240, width: int = 320) -> np.ndarray:
    random = np.random.default_rng(0)
    scores = np.stack([cv2.resize(random.normal(size=(5, 6)), (width, height)) for _ in range(labels)])
    shares = np.exp(6 * scores)
    return (shares / shares.sum(axis=0)).astype(np.float32)


@settings(max_examples=150, deadline=None)
@given(probability_maps(), sizes, in_strips, st.sampled_from([4, 2**16]))
def test_mask_is_that_of_planes_enlarged_as_a_whole(probabilities, size, strips, longest_row):
    planes = plainly_enlarged(probabilities, size)
    labels = range(3, 3 + 7 * len(probabilities), 7)
    with strips, patch.object(upsampling, "_LONGEST_ROW", longest_row):
        mask = enlarge_mask(probabilities, labels, size)
    assert (mask.shape, mask.dtype, mask.flags.c_contiguous) == (size, np.uint8, True)
    chosen = np.take_along_axis(planes, (mask[None] - 3) // 7, axis=0)[0]
    assert (planes.max(axis=0) - chosen).max() <= 1e-5


@settings(max_examples=150, deadline=None)
@given(probability_maps(), sizes, in_strips, st.sampled_from([4, 2**16]), st.integers(0, 2**32 - 1))
def test_confidence_is_the_probability_of_each_pixels_own_label(probabilities, size, strips, longest_row, seed):
    labels = range(3, 3 + 7 * len(probabilities), 7)
    indices = np.random.default_rng(seed).integers(0, len(labels), size)
    exact = np.take_along_axis(plainly_enlarged(probabilities, size), indices[None], axis=0)[0]
    with strips, patch.object(upsampling, "_LONGEST_ROW", longest_row):
        confidence = enlarge_confidence(probabilities, labels, np.array(labels, dtype=np.uint8)[indices])
    assert (confidence.shape, confidence.dtype, confidence.flags.c_contiguous) == (size, np.uint8, True)
    assert np.abs(confidence / 255 - exact).max() <= 0.51 / 255


@pytest.mark.parametrize("size", [(3, 100), (3, 400_000)])
def test_label_that_is_strongest_nowhere_at_the_small_size_can_win_between(size):
    probabilities = np.float32([[[0.55, 0]], [[0, 0.55]], [[0.45, 0.45]]])
    mask = enlarge_mask(probabilities, (0, 4, 9), size)
    width = size[1]
    assert mask[:, [0, width // 2, width - 1]].tolist() == [[0, 9, 4]] * 3
    # 0.55 (1 - x) = 0.45 at x = 2/11 between the two centres, which are half the width apart
    assert (mask == 9).mean() == pytest.approx((1 - 4 / 11) / 2, abs=2 / width)


def test_at_its_own_size_it_is_the_strongest_label():
    probabilities = smooth_map(3)
    mask = enlarge_mask(probabilities, (0, 4, 9), probabilities.shape[1:])
    np.testing.assert_array_equal(mask, np.uint8([0, 4, 9])[probabilities.argmax(axis=0)])


@pytest.mark.parametrize("size", [(30, 40), (1500, 2000)])
def test_first_of_equals_wins(size):
    even = np.full((3, 4, 5), 1 / 3, dtype=np.float32)
    assert (enlarge_mask(even, (2, 5, 7), size) == 2).all()


def test_extremes_of_confidence():
    certain = np.stack([np.ones((4, 5)), np.zeros((4, 5))]).astype(np.float32)
    mask = np.zeros((9, 9), dtype=np.uint8)
    mask[3:] = 1
    confidence = enlarge_confidence(certain, (0, 1), mask)
    assert (confidence == np.where(mask == 0, 255, 0)).all()


@pytest.mark.parametrize(("labels", "size"), [(7, (5773, 8660)), (3, (40, 1_000_000)), (3, (1_000_000, 40))])
def test_memory_stays_bounded(labels, size):
    probabilities = smooth_map(labels)
    tracemalloc.start()
    try:
        mask = enlarge_mask(probabilities, range(labels), size)
        taken = tracemalloc.get_traced_memory()[1] - mask.nbytes
        tracemalloc.reset_peak()
        confidence = enlarge_confidence(probabilities, range(labels), mask)
        taken_again = tracemalloc.get_traced_memory()[1] - mask.nbytes - confidence.nbytes
    finally:
        tracemalloc.stop()
    copied = mask.nbytes if size[1] > 2**16 else 0  # the transposed result
    assert max(taken, taken_again) < 30e6 + copied
    assert len(np.unique(mask)) == labels


def test_limited_to_chosen_labels():
    probabilities = np.float32([0.5, 0.25, 0.25, 0])[:, None, None] * np.ones((4, 2, 3), dtype=np.float32)
    chosen = select_labels(probabilities, (0, 2))
    assert chosen.dtype == np.float32
    np.testing.assert_allclose(chosen, np.broadcast_to(np.array([2 / 3, 1 / 3])[:, None, None], (2, 2, 3)), rtol=1e-6)


def test_limited_to_labels_without_any_probability_is_uniform():
    probabilities = np.float32([[[1, 0.5]], [[0, 0.25]], [[0, 0.25]]])
    assert select_labels(probabilities, (1, 2)).tolist() == [[[0.5, 0.5]], [[0.5, 0.5]]]
