from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tagmask.formats import polygons
from tagmask.segmentation import Pixels
from tests.tagmask.formats.segmentations import CLASSES, MASKS, parse, segmentation


def check(mask: Pixels) -> list[dict[str, Any]]:
    """Every promise of the format, on the polygons of `mask`, which are returned."""
    height, width = mask.shape
    document = parse(polygons.encode(segmentation(mask)))
    assert document["size"] == {"width": width, "height": height}
    ys, xs = np.mgrid[:height, :width] + 0.5
    painted = np.zeros_like(mask, dtype=int)
    for piece in document["polygons"]:
        polygon = shapely.Polygon(piece["exterior"], piece["holes"])
        assert polygon.is_valid, shapely.is_valid_reason(polygon)
        assert polygon.area == piece["area"]
        assert polygon.exterior.is_ccw  # positive signed area
        assert not any(hole.is_ccw for hole in polygon.interiors)
        for ring in (piece["exterior"], *piece["holes"]):
            assert ring[0] == ring[-1]
            steps = np.diff(np.array([*ring, ring[1]]), axis=0)
            assert (np.count_nonzero(steps, axis=1) == 1).all()  # along pixel edges
            assert (steps[1:, 0] == 0).tolist() == (steps[:-1, 1] == 0).tolist()  # a turn at every point
        assert CLASSES[piece["label"]] == piece["class"]
        painted += shapely.contains_xy(polygon, xs, ys) * piece["label"]  # by label: two at one place would not match
    np.testing.assert_array_equal(painted, mask)
    return document["polygons"]


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
def test_filling_the_polygons_gives_the_mask(mask: Pixels) -> None:
    check(mask)


@settings(deadline=None, max_examples=300)
@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 2)))
def test_any_mask(mask: Pixels) -> None:
    check(mask)


@settings(deadline=None, max_examples=300)
@given(arrays(np.uint8, (9, 9), elements=st.integers(0, 1)))
def test_any_binary_mask(mask: Pixels) -> None:
    check(mask)


def test_larger_noise() -> None:
    check((np.random.default_rng(0).random((60, 60)) < 0.6).astype(np.uint8))


def test_a_piece_is_joined_by_edges_not_by_corners() -> None:
    assert [polygon["area"] for polygon in check(np.eye(3, dtype=np.uint8))] == [1, 1, 1]


def test_a_hole_may_touch_the_rim_at_a_corner() -> None:
    mask = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]], dtype=np.uint8)
    (polygon,) = check(mask)
    assert polygon["area"] == 7
    assert polygon["exterior"] == [[0, 0], [3, 0], [3, 2], [2, 2], [2, 3], [0, 3], [0, 0]]
    assert [sorted(hole[:-1]) for hole in polygon["holes"]] == [[[1, 1], [1, 2], [2, 1], [2, 2]]]
