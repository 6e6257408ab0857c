import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from training.stages.refinement import RefinementConfig, object_posterior, refine

SIZE = (40, 60)


def red_box() -> tuple[np.ndarray, np.ndarray]:
    """A red box on green, and where it is: (H, W) bool."""
    box = np.zeros(SIZE, dtype=bool)
    box[10:30, 15:45] = True
    return np.where(box[..., None], (200, 40, 40), (60, 150, 60)).astype(np.uint8), box


def test_colour_brings_in_what_the_regions_missed_and_takes_out_what_they_took_too_much():
    photo, box = red_box()
    inside = np.zeros(SIZE)
    inside[10:30, 5:35] = 0.9  # the box's left two thirds and some of the ground beside it
    even = np.full(SIZE, 0.5)
    posterior = object_posterior(photo, inside, even, bins=8)
    assert posterior.dtype == np.float32
    assert posterior[box].min() > 0.9
    assert posterior[~box].max() < 0.1


def test_where_colours_say_nothing_the_posterior_is_the_prior():
    photo = np.full((*SIZE, 3), 120, dtype=np.uint8)
    saliency = np.linspace(0.1, 0.9, SIZE[1])[None].repeat(SIZE[0], axis=0)
    inside = np.full(SIZE, 0.5)
    np.testing.assert_allclose(object_posterior(photo, inside, saliency, bins=4), saliency, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 64), st.integers(0, 1000), st.floats(0, 1))
def test_probabilities_stay_probabilities(bins, seed, weight):
    random = np.random.default_rng(seed)
    photo = random.integers(0, 256, (6, 9, 3), dtype=np.uint8)
    shown = random.random((6, 9)).round()  # of 0 and 1 alone: the hardest
    config = RefinementConfig(bins=bins, weight=weight)
    refined = refine(photo, np.stack([1 - shown, shown]), random.random((6, 9)).round(), config)
    assert (refined.shape, refined.dtype) == ((2, 6, 9), np.float32)
    np.testing.assert_allclose(refined.sum(axis=0), 1, atol=1e-6)
    assert refined.min() >= 0


def test_the_weight_goes_from_the_regions_own_to_the_posterior():
    photo, _ = red_box()
    random = np.random.default_rng(0)
    shown, saliency = random.random(SIZE), random.random(SIZE)
    probabilities = np.stack([1 - shown, shown])
    kept = refine(photo, probabilities, saliency, RefinementConfig(bins=8, weight=0))
    np.testing.assert_allclose(kept, probabilities, atol=1e-6)
    replaced = refine(photo, probabilities, saliency, RefinementConfig(bins=8, weight=1))
    np.testing.assert_allclose(replaced[1], object_posterior(photo, shown, saliency, bins=8), atol=1e-6)


def test_the_posterior_by_hand():
    """Greys of L 11, 30, 31 and 50 (0..255): two bins of 20 levels hold two each. Their a and b are all the same."""
    photo = np.array([15, 31, 32, 47], dtype=np.uint8)[None, :, None].repeat(3, axis=2)
    inside, saliency = np.array([[1.0, 0.0, 0.0, 0.0]]), np.full((1, 4), 0.5)
    # (count + 1) / (total + bins) of L, a and b: the darker two, then the lighter two
    dark = (2 / 3 * 2 / 3 * 2 / 3, 2 / 5 * 4 / 5 * 4 / 5)
    light = (1 / 3 * 2 / 3 * 2 / 3, 3 / 5 * 4 / 5 * 4 / 5)
    expected = [object_ / (object_ + background) for object_, background in (dark, dark, light, light)]
    np.testing.assert_allclose(object_posterior(photo, inside, saliency, bins=2)[0], expected, rtol=1e-5)


def test_saliency_is_never_certain():
    photo = np.full((1, 2, 3), 120, dtype=np.uint8)
    posterior = object_posterior(photo, np.full((1, 2), 0.5), np.array([[0.0, 1.0]]), bins=4)
    np.testing.assert_allclose(posterior, [[0.02, 0.98]], atol=1e-6)


def test_histograms_of_unlike_sizes_are_compared_as_shares():
    """A colour that takes the same share inside and outside says nothing, however many pixels either has."""
    photo = np.zeros((1, 400, 3), dtype=np.uint8)
    photo[0, ::2] = 255
    inside = np.zeros((1, 400))
    inside[0, :40] = 1
    posterior = object_posterior(photo, inside, np.full((1, 400), 0.5), bins=2)
    np.testing.assert_allclose(posterior, 0.5, atol=0.02)
