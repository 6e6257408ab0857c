import numpy as np

from tagmask.masks import VOID
from training.fitting.adjustment import label_counts, logit_offsets, source_offsets


def test_offsets_are_log_shares_of_what_is_not_void():
    masks = [np.full((3, 2), 0, dtype=np.uint8), np.array([1, VOID, VOID], dtype=np.uint8)]
    counts = label_counts(masks, 3)
    np.testing.assert_array_equal(counts, [6, 1, 0])
    # Each of the labels 0 to 2 is counted once more: 7, 2 and 1 of 10.
    np.testing.assert_allclose(logit_offsets(counts, 1.0), np.log([0.7, 0.2, 0.1]), rtol=1e-6)
    np.testing.assert_allclose(logit_offsets(counts, 0.5), np.log([0.7, 0.2, 0.1]) / 2, rtol=1e-6)
    assert not logit_offsets(counts, 0.0).any()


COUNTS = np.array([[699.0, 199.0, 99.0], [99.0, 499.0, 399.0]])  # and 1 each: shares of 0.7, 0.2, 0.1 and 0.1, 0.5, 0.4
STRENGTHS = {"strength": 0.3, "known_strength": 0.6}


def test_without_known_shares_the_mined_source_is_evened_out_as_by_tags_alone():
    offsets = source_offsets(COUNTS, np.zeros(3), np.zeros(3, dtype=np.int64), **STRENGTHS)
    np.testing.assert_allclose(offsets[0], 0.3 * np.log([0.7, 0.2, 0.1]), rtol=1e-6)


def test_shares_that_many_photos_tell_take_the_place_of_mined_ones():
    shares = np.array([0.9, 0.09, 0.01])
    offsets = source_offsets(COUNTS, shares, np.full(3, 1_000_000), **STRENGTHS)
    np.testing.assert_allclose(offsets[0], np.log([0.7, 0.2, 0.1]) - 0.4 * np.log(shares), rtol=1e-4)
    one = source_offsets(COUNTS, shares, np.array([1_000_000, 1, 0]), **STRENGTHS)
    np.testing.assert_allclose(one[0, 1], np.log(0.2) - (0.7 * np.log(0.2) + 0.4 * np.log(0.09)) / 2, rtol=1e-4)
    np.testing.assert_allclose(one[0, 2], 0.3 * np.log(0.1), rtol=1e-4)


def test_each_source_teaches_the_same_whatever_its_own_shares_are():
    offsets = source_offsets(COUNTS, np.array([0.9, 0.09, 0.01]), np.array([5, 3, 2]), **STRENGTHS)
    np.testing.assert_allclose(offsets[1] - offsets[0], np.log([0.1 / 0.7, 0.5 / 0.2, 0.4 / 0.1]), rtol=1e-5)
