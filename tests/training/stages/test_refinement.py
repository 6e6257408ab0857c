import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.stages.refinement import LARGEST, MOST, RefinementConfig, follow_colours, refine


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


def test_what_has_the_colour_of_a_thing_belongs_to_it():
    """Of 300 pixels, 100 are the tag, 100 background, and 100, with the tag's colour, either.

    Beside these, the tag has 100 pixels, all of this colour, and background 100 of another one. Each gets 1% of all
    pixels in addition: the odds are 101 : 1, more than colours may have.
    """
    probabilities = np.array([[0.0, 1], [1, 0], [0.5, 0.5]])
    colours, area = np.array([[0, 0, 0], [0, 100, 0], [0, 0, 0]]), np.array([100, 100, 100])
    followed = follow_colours(probabilities, colours, area, RefinementConfig())
    odds = np.exp(LARGEST)
    np.testing.assert_allclose(followed, [[0, 1], [1, 0], [1 / (1 + odds), odds / (1 + odds)]], atol=1e-4)


def test_a_colour_that_is_both_is_as_likely_as_it_is_frequent():
    """Of the last one's colour are 200 of the tag's 300 other pixels, and 100 of the 400 of background."""
    sure = [0, 0, 1, 1]
    probabilities = np.array([[1.0 - label, label] for label in sure] + [[0.5, 0.5]])
    colours = np.array([[0, 0, 0], [0, 100, 0], [0, 0, 0], [0, 100, 0], [0, 0, 0]])
    area = np.array([100, 300, 200, 100, 1])
    followed = follow_colours(probabilities, colours, area, RefinementConfig())
    assert followed[4, 1] == pytest.approx((200 / 300) / (200 / 300 + 100 / 400), abs=0.01)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1000), st.floats(0, 4), st.integers(0, 4))
def test_colours_change_probabilities_within_limits(seed: int, weight: float, tags: int):
    random = np.random.default_rng(seed)
    probabilities, area = random.dirichlet(np.full(tags + 1, 9), 6), random.integers(1, 100, 6)
    followed = follow_colours(probabilities, random.normal(0, 60, (6, 3)), area, RefinementConfig(colours=weight))
    assert (followed.shape, followed.dtype) == ((6, tags + 1), np.float32)
    np.testing.assert_allclose(followed.sum(axis=1), 1, atol=1e-6)
    before, after = (np.log(each[:, 1:] / each[:, :1]) for each in (probabilities, followed))
    assert np.abs(after - before).max(initial=0) <= weight * LARGEST + 0.01


def test_a_photo_of_one_colour_and_a_weight_of_zero_change_nothing():
    probabilities, area = np.array([[0.2, 0.8], [0.7, 0.3], [1, 0]]), np.array([3, 5, 4])
    same, colours = np.full((3, 3), 50), np.array([[0, 0, 0], [90, 0, 0], [0, 90, 0]])
    for seen, weight in ((same, 1), (colours, 0)):
        followed = follow_colours(probabilities, seen, area, RefinementConfig(colours=weight))
        np.testing.assert_allclose(followed, probabilities, atol=1e-5)
