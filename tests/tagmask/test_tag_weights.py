import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tagmask.tag_weights import tag_weights

SHARES = arrays(np.float64, 3, elements=st.floats(0, 1))


def test_a_tag_that_is_less_likely_than_usual_loses_by_the_ratio_of_the_odds() -> None:
    weights = tag_weights(np.array([0.2, 0.5, 0.9], np.float32), np.array([0.5, 0.5, 0.5]))
    assert weights.dtype == np.float32
    assert weights.tolist() == pytest.approx([1, 0.25, 1, 1])


@given(SHARES)
def test_a_network_that_cannot_tell_tags_changes_nothing(shares: np.ndarray) -> None:
    np.testing.assert_allclose(tag_weights(shares.astype(np.float32), shares), 1, rtol=1e-3)


@given(arrays(np.float32, 3, elements=st.floats(0, 1, width=32)), SHARES)
def test_weights_are_factors_of_probabilities(probabilities: np.ndarray, shares: np.ndarray) -> None:
    weights = tag_weights(probabilities, shares)
    assert weights[0] == 1
    assert ((weights > 0) & (weights <= 1)).all()
