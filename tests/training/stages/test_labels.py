import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tagmask.masks import VOID
from training.stages.labels import LabelsConfig, restore


def restored(mask: list[int], regions: list[int], odds: dict[int, list[float]], **config: float) -> list[int]:
    rows = [np.array([each], dtype=np.uint8) for each in (mask, regions)]
    scores = {label: np.array([values], dtype=np.float32) for label, values in odds.items()}
    labels: list[int] = restore(*rows, scores, LabelsConfig(**config))[0].tolist()
    return labels


def test_a_label_that_is_wiped_out_comes_back_and_another_stays_as_it_is():
    regions = [1] * 10 + [2] * 10 + [0] * 10
    mask = [0] * 10 + [2] * 2 + [VOID] * 8 + [0] * 10
    odds = {1: [0.0] * 30, 2: [0.0] * 30}  # which say nothing
    assert restored(mask, regions, odds, restore_below=0.1) == [1] * 10 + [2] * 2 + [VOID] * 8 + [0] * 10
    assert restored(mask, regions, odds, restore_below=0.3) == regions
    assert restored(mask, regions, odds, restore_below=0) == mask


def test_pixels_come_back_unless_it_took_those_of_weak_evidence():
    regions, mask = [1] * 10 + [0] * 2, [1] * 5 + [0] * 3 + [VOID] * 2 + [0] * 2
    alike, weak, strong = [2.0] * 12, [3.0] * 5 + [1.0] * 7, [1.0] * 5 + [3.0] * 7
    assert restored(mask, regions, {1: alike}) == regions
    assert restored(mask, regions, {1: strong}) == regions
    assert restored(mask, regions, {1: weak}) == mask  # a quarter of the evidence was in the half that was taken
    assert restored(mask, regions, {1: weak}, restore_above=0.4) == regions
    assert restored(mask, regions, {1: [-2.0] * 12}) == mask  # no evidence at all


def test_pixels_that_another_tag_took_stay_with_it():
    regions, mask = [1] * 6 + [2] * 4, [1] * 3 + [2] * 2 + [0] + [2] * 4
    assert restored(mask, regions, {1: [1.0] * 10, 2: [1.0] * 10}) == [1] * 3 + [2] * 2 + [1] + [2] * 4


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1000), st.floats(0, 1), st.floats(0, 2))
def test_only_pixels_that_a_label_had_come_back(seed: int, below: float, above: float):
    random = np.random.default_rng(seed)
    regions = random.integers(0, 4, (8, 9)).astype(np.uint8)
    mask = random.choice(np.array([0, 0, 0, 1, 2, 3, VOID], dtype=np.uint8), (8, 9))
    odds = {label: random.normal(1, 3, (8, 9)) for label in (1, 2, 3)}
    before = mask.copy()
    after = restore(mask, regions, odds, LabelsConfig(restore_below=below, restore_above=above))
    np.testing.assert_array_equal(mask, before)
    changed = after != mask
    np.testing.assert_array_equal(after[changed], regions[changed])
    for label in (1, 2, 3):
        had = regions == label
        assert (after == label)[had & (mask == label)].all()
        if (mask == label).sum() < below * had.sum():
            assert (after == label)[had].all()
