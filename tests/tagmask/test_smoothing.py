from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tagmask.colours import follow_colours
from tagmask.smoothing import smooth, smooth_coarsely


def planes(labels: np.ndarray, sure: float, count: int = 2) -> np.ndarray:
    """Probabilities (count, H, W) float32: `sure` for the pixel's own of `labels`, the rest evenly spread."""
    own = np.arange(count)[:, None, None] == labels
    return np.where(own, sure, (1 - sure) / (count - 1)).astype(np.float32)


def dark_and_bright() -> tuple[np.ndarray, np.ndarray]:
    """A photo (40, 60, 3) that is dark left of column 30 and bright from there, and labels (40, 60), 1 from 34."""
    photo = np.full((40, 60, 3), 40, dtype=np.uint8)
    photo[:, 30:] = 200
    labels = np.zeros((40, 60), dtype=int)
    labels[:, 34:] = 1
    return photo, labels


def test_borders_move_to_the_edges_of_the_photo():
    photo, labels = dark_and_bright()
    smoothed = smooth(photo, planes(labels, 0.8)).argmax(axis=0)
    np.testing.assert_array_equal(smoothed, (photo[..., 0] == 200).astype(int))


def test_what_is_thin_stays():
    labels = np.zeros((40, 60), dtype=int)
    labels[20, 5:55] = 1
    probabilities = planes(labels, 0.6)
    np.testing.assert_array_equal(smooth(np.full((40, 60, 3), 90, np.uint8), probabilities).argmax(axis=0), labels)


def test_at_half_the_size_borders_move_as_far():
    photo, labels = dark_and_bright()
    fine, coarse = smooth(photo, planes(labels, 0.8)), smooth_coarsely(photo, planes(labels, 0.8))
    np.testing.assert_array_equal(coarse.argmax(axis=0), (photo[..., 0] == 200).astype(int))
    np.testing.assert_allclose(coarse[:, :, [5, 20, 40, 55]], fine[:, :, [5, 20, 40, 55]], atol=0.02)


def test_at_half_the_size_a_single_pixel_stays():
    photo, labels = np.full((41, 61, 3), 90, dtype=np.uint8), np.zeros((41, 61), dtype=int)
    photo[17, 23], labels[17, 23] = 250, 1
    np.testing.assert_array_equal(smooth_coarsely(photo, planes(labels, 0.9)).argmax(axis=0), labels)


def test_one_label_is_left_as_it_is():
    alone = np.ones((1, 4, 5), dtype=np.float32)
    assert smooth(np.zeros((4, 5, 3), np.uint8), alone) is alone


@pytest.mark.parametrize("refine", [smooth, smooth_coarsely, follow_colours])
@given(
    arrays(
        np.float32,
        st.tuples(st.integers(2, 12), st.integers(1, 20), st.integers(1, 20)),
        elements=st.floats(0, 1, width=32),
    ),
    st.integers(0, 2**32 - 1),
)
def test_they_stay_probabilities(refine: Callable[[np.ndarray, np.ndarray], np.ndarray], raw: np.ndarray, seed: int):
    photo = np.random.default_rng(seed).integers(0, 256, (*raw.shape[1:], 3), dtype=np.uint8)
    probabilities = (raw + 1e-3) / (raw + 1e-3).sum(axis=0)
    given_ones = probabilities.copy()
    refined = refine(photo, probabilities)
    np.testing.assert_array_equal(probabilities, given_ones)
    assert (refined.dtype, refined.shape) == (np.float32, probabilities.shape)
    assert refined.min() >= 0
    if refine is not follow_colours:
        assert refined.max() <= probabilities.max() + 1e-4
    left = 0 if refine is follow_colours else (probabilities.max(axis=(1, 2)) < 0.1).sum()  # they do not follow
    np.testing.assert_allclose(refined.sum(axis=0), 1, atol=0.1 * left + 1e-3)
