import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from benchmarks.losses import DISTANCES, SIZES, Losses, boundary_distance, repairs

CLASSES = 4
labels = st.sampled_from([*range(CLASSES), 255])
pairs = array_shapes(min_dims=2, max_dims=2, max_side=9).flatmap(
    lambda shape: st.tuples(*(arrays(np.uint8, shape, elements=labels) for _ in range(2)))
)


@given(pairs)
def test_the_three_kinds_of_error_are_all_there_are(pair):
    mask, truth = pair
    known = truth != 255
    distance = boundary_distance(truth)
    wrong = {name: ((each != truth) & known).sum() for name, each in repairs(mask, truth, distance).items()}
    before = ((mask != truth) & known).sum()
    assert sum(before - wrong[name] for name in ("background", "objects", "classes")) == before
    assert wrong["boundaries"] == ((mask != truth) & known & (distance > 5)).sum()


@given(pairs)
def test_distance_is_that_to_the_nearest_pixel_of_another_label(pair):
    _, truth = pair
    points = np.argwhere(np.ones(truth.shape, dtype=bool))
    between = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1))
    between[truth.ravel()[:, None] == truth.ravel()[None]] = np.inf
    np.testing.assert_allclose(boundary_distance(truth).ravel(), between.min(axis=1), rtol=1e-3)


@given(st.lists(st.tuples(pairs, st.integers(1, 3)), min_size=1, max_size=4))
def test_every_known_pixel_is_in_one_group(photos):
    merged = Losses(CLASSES)
    for (mask, truth), tags in photos:
        losses = Losses(CLASSES)
        losses.add(mask, truth, tags)
        merged.merge(losses)
    counts = {name: total.counts.sum() for name, total in merged.photos.items()}
    everything = merged.total.counts.sum()
    assert everything == sum((truth != 255).sum() for (_, truth), _ in photos)
    assert counts["one tag"] + counts["several tags"] == sum(counts[name] for name in SIZES) == everything
    assert sum(merged.pixels.values()) == everything
    correct = merged.total.counts[:, :CLASSES].diagonal().sum()
    assert sum(merged.wrong[name] for name in DISTANCES) == everything - correct
