import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tagmask.masks import VOID
from training.stages.labels import restore


def test_a_label_that_is_wiped_out_comes_back_and_another_stays_as_it_is():
    regions = np.array([[1] * 10 + [2] * 10 + [0] * 10], dtype=np.uint8)
    mask = np.array([[0] * 10 + [2] * 2 + [VOID] * 8 + [0] * 10], dtype=np.uint8)
    np.testing.assert_array_equal(restore(mask, regions, 0.1), [[1] * 10 + [2] * 2 + [VOID] * 8 + [0] * 10])
    np.testing.assert_array_equal(restore(mask, regions, 0.3), regions)
    np.testing.assert_array_equal(restore(mask, regions, 0), mask)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1000), st.floats(0, 1))
def test_only_pixels_of_labels_that_are_wiped_out_change(seed: int, below: float):
    random = np.random.default_rng(seed)
    regions = random.integers(0, 4, (8, 9)).astype(np.uint8)
    mask = random.choice(np.array([0, 0, 0, 1, 2, 3, VOID], dtype=np.uint8), (8, 9))
    before = mask.copy()
    restored = restore(mask, regions, below)
    np.testing.assert_array_equal(mask, before)
    changed = restored != mask
    np.testing.assert_array_equal(restored[changed], regions[changed])
    for label in (1, 2, 3):
        had = regions == label
        if (mask == label).sum() < below * had.sum():
            assert (restored == label)[had].all()
