import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from training.stages import seeds
from training.stages.seeds import SeedsConfig

CONFIG = SeedsConfig(
    object_above=0.5, background_below=0.2, object_saliency=0.3, background_saliency=0.5, agreement=0.8, confidence=0.6
)  # the tests' own, so that the defaults may be tuned


def test_strong_regions_are_objects_weak_ones_background_and_the_rest_void():
    maps = np.array([[4.0, -1.0], [2.0, 0.1], [1.0, 0.2], [0.5, -3.0], [-1.0, 2.0]])
    # Divided by 4 and by 2: the first two are the first tag, the last the second one, the fourth is weak in both.
    assert seeds.from_class_maps(maps, np.full(5, 0.4), CONFIG).tolist() == [1, 1, -1, 0, 2]


def test_saliency_must_agree():
    maps = np.array([[4.0], [4.0], [0.1], [0.1]])
    saliency = np.array([0.9, 0.1, 0.9, 0.1])
    assert seeds.from_class_maps(maps, saliency, CONFIG).tolist() == [1, -1, -1, 0]


@settings(max_examples=60, deadline=None)
@given(arrays(np.float64, st.tuples(st.integers(1, 12), st.integers(1, 3)), elements=st.floats(-5, 5)))
def test_relative_maps_reach_from_0_to_1_and_keep_order(maps):
    strength = seeds.relative(maps)
    assert strength.min() >= 0
    assert strength.max() <= 1
    for given_map, its in zip(maps.T, strength.T, strict=True):
        assert (np.diff(its[np.argsort(given_map)]) >= 0).all()
        assert given_map.max() <= 1e-6 or its.max() == 1


def test_later_seeds_need_agreement_and_confidence():
    shares = np.array([[0.9, 0.1, 0.0], [0.1, 0.9, 0.0], [0.3, 0.0, 0.7], [0.0, 0.0, 1.0], [0.0, 0.8, 0.2]])
    confidence = np.array([[0.8, 0.1, 0.1], [0.4, 0.5, 0.1], [0.1, 0.1, 0.8], [0.1, 0.2, 0.7], [0.2, 0.6, 0.2]])
    assert seeds.from_masks(shares, confidence, CONFIG).tolist() == [0, -1, -1, 2, 1]


def test_background_may_stand_out_up_to_its_setting():
    saliency = np.array([0.5, 0.51])
    assert seeds.from_class_maps(np.array([[0.0], [0.0]]), saliency, CONFIG).tolist() == [0, -1]


def test_a_region_at_a_limit():
    """At `object_above` and `object_saliency` an object; at `background_below` not yet background."""
    maps = np.array([[4.0], [2.0], [0.8]])
    assert seeds.from_class_maps(maps, np.full(3, 0.3), CONFIG).tolist() == [1, 1, -1]
    shares, confidence = np.array([[0.2, 0.8]]), np.array([[0.4, 0.6]])
    assert seeds.from_masks(shares, confidence, CONFIG).tolist() == [1]
