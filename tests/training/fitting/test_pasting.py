import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from tagmask.masks import VOID
from training.fitting.pasting import paste_objects, pasting_offsets

LABELS = st.sampled_from([0, 1, 2, VOID])


def photos_of(numbers: np.ndarray) -> Tensor:
    """Photos (B, 3, S, S) whose colours tell each pixel apart from that of any other photo."""
    count, side = numbers.shape[:2]
    return torch.arange(count * 3 * side * side).reshape(count, 3, side, side)


@given(labels=arrays(np.uint8, (3, 4, 4), elements=LABELS))
@settings(deadline=None)
def test_objects_of_the_photo_before_cover_a_photo_and_the_rest_stays(labels: np.ndarray):
    photos = photos_of(labels)
    pasted, pasted_labels = paste_objects((photos, torch.from_numpy(labels)), 1.0)
    for number in range(3):
        covered = np.isin(labels[number - 1], [1, 2])
        expected = np.where(covered, labels[number - 1], labels[number])
        np.testing.assert_array_equal(pasted_labels[number], expected)
        np.testing.assert_array_equal(pasted[number], np.where(covered, photos[number - 1], photos[number]))


@given(labels=arrays(np.uint8, (2, 4, 4, 2), elements=LABELS))
@settings(deadline=None)
def test_an_object_of_any_source_brings_the_labels_of_all_sources(labels: np.ndarray):
    photos = photos_of(labels)
    pasted, pasted_labels = paste_objects((photos, torch.from_numpy(labels)), 1.0)
    for number in range(2):
        covered = np.isin(labels[number - 1], [1, 2]).any(axis=2)
        np.testing.assert_array_equal(pasted[number], np.where(covered, photos[number - 1], photos[number]))
        expected = np.where(covered[..., None], labels[number - 1], labels[number])
        np.testing.assert_array_equal(pasted_labels[number], expected)


def test_so_many_photos_get_objects():
    labels = torch.ones(4000, 1, 1, dtype=torch.uint8)
    labels[::2] = 0  # a photo of background before each object, and an object before each background
    torch.manual_seed(0)
    _, pasted = paste_objects((torch.zeros(4000, 3, 1, 1), labels), 0.3)
    assert (pasted[1::2] == 1).all()
    assert (pasted[::2] == 1).float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert paste_objects((torch.zeros(4000, 3, 1, 1), labels), 0.0)[1].equal(labels)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_offsets_are_how_much_more_frequent_objects_become(share: float):
    torch.manual_seed(0)
    labels = torch.from_numpy(np.random.default_rng(0).choice(3, (2000, 8, 8), p=[0.7, 0.2, 0.1]).astype(np.uint8))
    _, pasted = paste_objects((torch.zeros(2000, 3, 8, 8), labels), share)
    before, after = (np.bincount(each.flatten(), minlength=3) for each in (labels, pasted))
    gained = np.log(after / after[0]) - np.log(before / before[0])
    np.testing.assert_allclose(pasting_offsets(before.astype(float), share), gained, atol=0.05)


def test_offsets_are_finite_for_any_counts():
    for counts in ([0.0, 0.0], [5.0, 0.0], [0.0, 5.0]):
        assert torch.isfinite(pasting_offsets(np.array(counts), 1.0)).all()
