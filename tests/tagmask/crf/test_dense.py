import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tagmask.crf import CrfConfig, dense_crf

# The tests' own strengths, so that the defaults may be tuned.
STRONG = CrfConfig(colour_spread=10, space_spread=30, colour_weight=10, smooth_spread=3, smooth_weight=3, steps=5)


def two_halves() -> tuple[np.ndarray, np.ndarray]:
    """A photo of a dark and a bright half, and its labels 0 and 1."""
    truth = np.zeros((40, 60), dtype=np.int64)
    truth[:, 30:] = 1
    return np.repeat((truth * 180 + 30)[..., None], 3, axis=2).astype(np.uint8), truth


def test_labels_snap_to_the_edge_of_the_photo():
    photo, truth = two_halves()
    shifted = np.roll(truth, 5, axis=1)
    shifted[:, :5] = 0
    believed = np.where(shifted == np.arange(2)[:, None, None], 0.6, 0.4)
    smoothed = dense_crf(photo, believed, STRONG)
    assert (believed.argmax(axis=0) != truth).mean() > 0.05
    assert (smoothed.argmax(axis=0) != truth).mean() < 0.01


def test_speckle_goes():
    photo, truth = two_halves()
    speckled = truth.copy()
    speckled[::7, ::7] ^= 1
    believed = np.where(speckled == np.arange(2)[:, None, None], 0.7, 0.3)
    assert (dense_crf(photo, believed, STRONG).argmax(axis=0) == truth).all()


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 4), st.integers(1, 20), st.integers(1, 20), st.integers(0, 1000))
def test_the_result_is_a_distribution_at_each_pixel(labels, height, width, seed):
    random = np.random.default_rng(seed)
    photo = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    believed = random.dirichlet(np.ones(labels), (height, width)).transpose(2, 0, 1)
    smoothed = dense_crf(photo, believed, CrfConfig())
    assert (smoothed.shape, smoothed.dtype) == ((labels, height, width), np.float32)
    np.testing.assert_allclose(smoothed.sum(axis=0), 1, atol=1e-4)
    assert (smoothed >= 0).all()


def test_photos_of_another_memory_order_and_certain_probabilities():
    photo, truth = two_halves()
    certain = np.asfortranarray((truth == np.arange(2)[:, None, None]).astype(np.float64))
    smoothed = dense_crf(photo[:, ::-1][:, ::-1], certain, STRONG)
    assert np.isfinite(smoothed).all()
    assert (smoothed.argmax(axis=0) == truth).all()


def test_unlikely_labels_do_not_change_the_others():
    photo, truth = two_halves()
    random = np.random.default_rng(0)
    believed = np.where(truth == np.arange(2)[:, None, None], 0.7, 0.3) + random.normal(0, 0.1, (2, *truth.shape))
    unlikely = np.stack([*believed.clip(0.05, 0.95), np.full(truth.shape, 1e-4)]) / (1 + 1e-4)
    smoothed = dense_crf(photo, unlikely, STRONG)
    assert (smoothed[2] == 0).all()
    np.testing.assert_allclose(smoothed[:2], dense_crf(photo, unlikely[:2], STRONG), atol=1e-6)


def test_label_without_any_rival_is_certain():
    photo, truth = two_halves()
    believed = np.stack([np.full(truth.shape, 0.02), np.full(truth.shape, 0.98)])
    assert (dense_crf(photo, believed, STRONG) == np.arange(2)[:, None, None]).all()
