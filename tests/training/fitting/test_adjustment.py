import numpy as np

from tagmask.masks import VOID
from training.fitting.adjustment import logit_offsets


def test_offsets_are_log_shares_of_what_is_not_void():
    masks = [np.full((3, 2), 0, dtype=np.uint8), np.array([1, VOID, VOID], dtype=np.uint8)]
    # Each of the labels 0 to 2 is counted once more: 7, 2 and 1 of 10.
    np.testing.assert_allclose(logit_offsets(masks, 3, 1.0), np.log([0.7, 0.2, 0.1]), rtol=1e-6)
    np.testing.assert_allclose(logit_offsets(masks, 3, 0.5), np.log([0.7, 0.2, 0.1]) / 2, rtol=1e-6)
    assert not logit_offsets(masks, 3, 0.0).any()
