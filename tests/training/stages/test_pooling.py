import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from training.stages.pooling import pool_weights


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 24),
    width=st.integers(1, 24),
    cells=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    count=st.integers(1, 6),
    seed=st.integers(0, 1000),
)
def test_pooling_is_the_mean_of_the_upsampled_map(height, width, cells, count, seed):
    random = np.random.default_rng(seed)
    _, flat = np.unique(random.integers(0, count, height * width), return_inverse=True)
    regions = flat.reshape(height, width).astype(np.int32)
    features = random.normal(size=(3, *cells)).astype(np.float32)
    weights = pool_weights(regions, *cells)
    upsampled = functional.interpolate(
        torch.from_numpy(features)[None], (height, width), mode="bilinear", align_corners=False
    )[0].numpy()
    expected = [upsampled[:, regions == region].mean(axis=1) for region in range(regions.max() + 1)]
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights @ features.reshape(3, -1).T, expected, atol=1e-5)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)
    assert (weights >= 0).all()
