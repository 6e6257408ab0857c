import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from training.stages import seeds
from training.stages.seeds import SeedsConfig

CONFIG = SeedsConfig(object_above=0.5, background_below=0.2)
"""The tests' own, so that the defaults may be tuned."""


def logit(probability: np.ndarray) -> np.ndarray:
    return np.log(probability / (1 - probability))


def test_strong_regions_are_objects_weak_ones_background_and_the_rest_void():
    scores = logit(np.array([[0.8, 0.01], [0.5, 0.03], [0.3, 0.02], [0.1, 0.01], [0.01, 0.4]]))
    # Divided by 0.8 and by 0.4: the first two are the first tag, the last the second one, the fourth is weak in both.
    assert seeds.choose(scores, CONFIG).tolist() == [1, 1, -1, 0, 2]


@settings(max_examples=60, deadline=None)
@given(arrays(np.float64, st.tuples(st.integers(1, 12), st.integers(1, 3)), elements=st.floats(-8, 8)))
def test_the_surest_region_of_a_photo_with_one_tag_is_its_seed(scores):
    chosen = seeds.choose(scores[:, :1], CONFIG)
    assert chosen[scores[:, 0].argmax()] == 1
    assert set(seeds.choose(scores, CONFIG).tolist()) <= set(range(-1, scores.shape[1] + 1))


def test_a_photo_without_tags_is_background():
    assert seeds.choose(np.zeros((3, 0)), CONFIG).tolist() == [0, 0, 0]


def test_a_region_at_a_limit():
    """Half of the greatest is an object, a fifth of it not yet background."""
    scores = logit(np.array([[0.5], [0.251], [0.101], [0.099]]))
    assert seeds.choose(scores, CONFIG).tolist() == [1, 1, -1, 0]
