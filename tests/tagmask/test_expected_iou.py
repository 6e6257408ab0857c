import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagmask.expected_iou import IouSums, expected_ious, mask_iou
from tagmask.upsampling import find_strongest, select_labels
from tests.tagmask.test_upsampling import probability_maps

seeds = st.integers(0, 2**32 - 1)


def any_mask(probabilities: np.ndarray, seed: int) -> np.ndarray:
    labels, *size = probabilities.shape
    return np.random.default_rng(seed).integers(0, labels, size, dtype=np.uint8)


@given(probability_maps(), seeds)
def test_it_is_the_expected_intersection_over_the_expected_union(probabilities: np.ndarray, seed: int) -> None:
    mask = any_mask(probabilities, seed)
    ious = expected_ious(probabilities, mask)
    assert ious.shape == (len(probabilities),)
    for label, plane in enumerate(probabilities):
        painted = mask == label
        union = painted.sum() + plane[~painted].sum()
        assert ious[label] == pytest.approx(plane[painted].sum() / union if painted.any() else 0, abs=1e-5)


@given(probability_maps(), seeds)
def test_it_is_from_0_to_1_and_0_where_nothing_is_painted(probabilities: np.ndarray, seed: int) -> None:
    for mask in (find_strongest(probabilities), any_mask(probabilities, seed)):
        ious = expected_ious(probabilities, mask)
        assert ((ious >= 0) & (ious <= 1)).all()
        assert not ious[np.bincount(mask.ravel(), minlength=len(ious)) == 0].any()


@given(probability_maps(), seeds, st.integers(0, 12))
def test_a_photo_may_come_in_parts(probabilities: np.ndarray, seed: int, row: int) -> None:
    mask, sums = any_mask(probabilities, seed), IouSums(len(probabilities))
    for rows in (slice(row), slice(row, None)):
        sums.add(probabilities[:, rows], mask[rows])
    np.testing.assert_allclose(sums.ious(), expected_ious(probabilities, mask), atol=1e-6)


@given(probability_maps(), seeds)
def test_certain_probabilities_give_the_iou_of_two_masks(probabilities: np.ndarray, seed: int) -> None:
    mask, other = find_strongest(probabilities), any_mask(probabilities, seed)
    labels = np.arange(len(probabilities))[:, None, None]
    certain = (mask == labels).astype(np.float32)
    np.testing.assert_array_equal(expected_ious(certain, mask), certain.any(axis=(1, 2)))
    both, either = ((mask == labels) & (other == labels)), ((mask == labels) | (other == labels))
    ious = both.sum(axis=(1, 2)) / either.sum(axis=(1, 2)).clip(1)
    np.testing.assert_allclose(expected_ious(certain, other), ious, atol=1e-6)


@given(probability_maps())
def test_less_certain_probabilities_give_less(probabilities: np.ndarray) -> None:
    mask = find_strongest(probabilities)
    blurred = select_labels(probabilities + np.float32(0.5), range(len(probabilities)))
    assert (expected_ious(blurred, mask) <= expected_ious(probabilities, mask) + 1e-5).all()


def test_that_of_a_mask_is_the_mean_without_background() -> None:
    assert mask_iou({0: 0.9, 2: 0.5, 3: 0.0}, 0) == 0.25
    assert mask_iou({2: 0.5}, 0) == 0.5
    assert mask_iou({"background": 0.9}, "background") == 0.9
    assert np.isnan(mask_iou({}, 0))
