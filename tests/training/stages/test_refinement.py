import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from training.stages.refinement import MOST, RefinementConfig, refine


def test_odds_by_hand():
    """Background, whose odds are 1, and two tags: 0.5 : 0.4 : 0.1 times 1 : 1 / 2 : 8 is 5 : 2 : 8."""
    probabilities, scores = np.array([[0.5, 0.4, 0.1]]), np.log(np.array([[0.5, 8.0]]))
    refined = refine(probabilities, scores, RefinementConfig(weight=1))
    np.testing.assert_allclose(refined, [[5 / 15, 2 / 15, 8 / 15]], atol=1e-5)


def test_the_weight_is_the_exponent_of_the_odds():
    probabilities, scores = np.array([[0.2, 0.4, 0.4]]), np.log(np.array([[9.0, 1.0]]))
    refined = refine(probabilities, scores, RefinementConfig(weight=0.5))
    np.testing.assert_allclose(refined, [[2 / 18, 12 / 18, 4 / 18]], atol=1e-5)
    np.testing.assert_allclose(refine(probabilities, scores, RefinementConfig(weight=0)), probabilities, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1000), st.floats(0, 2), st.integers(0, 4))
def test_probabilities_stay_probabilities(seed: int, weight: float, tags: int):
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.ones(tags + 1), 6)
    refined = refine(probabilities, random.normal(0, 20, (6, tags)), RefinementConfig(weight=weight))
    assert (refined.shape, refined.dtype) == ((6, tags + 1), np.float32)
    np.testing.assert_allclose(refined.sum(axis=1), 1, atol=1e-6)
    assert refined.min() >= 0


@given(st.floats(0.01, 0.99), st.floats(-20, 20), st.floats(-20, 20))
def test_more_evidence_never_paints_less(probability: float, low: float, high: float):
    probabilities = np.array([[1 - probability, probability]] * 2)
    less, more = refine(probabilities, np.array([[min(low, high)], [max(low, high)]]), RefinementConfig())[:, 1]
    assert less <= more


def test_evidence_is_never_certain():
    probabilities, config = np.array([[0.2, 0.4, 0.4]]), RefinementConfig(weight=1)
    limit = refine(probabilities, np.array([[MOST, 0.0]]), config)
    np.testing.assert_array_equal(refine(probabilities, np.array([[1000.0, 0.0]]), config), limit)
