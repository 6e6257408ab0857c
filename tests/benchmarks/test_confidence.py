import numpy as np
import pytest

from benchmarks.confidence import SERVED, figures, tables, true_iou
from tagmask.expected_iou import expected_ious


def test_the_true_iou_of_a_photo_is_the_mean_of_its_objects() -> None:
    truth = np.array([[0, 1, 1, 2], [255, 1, 1, 2]], dtype=np.uint8)
    mask = np.array([[0, 1, 1, 0], [2, 1, 1, 0]], dtype=np.uint8)
    assert true_iou(mask, truth, 4) == 0.5
    assert true_iou(np.zeros_like(mask), np.zeros_like(truth), 4) == 1


@pytest.mark.parametrize("tagged", [False, True])
def test_only_the_expected_iou_counts_a_tag_that_is_unpainted(tagged: bool) -> None:
    winners = np.array([[0, 1], [1, 1]], dtype=np.uint8)
    certain = (winners == np.arange(3)[:, None, None]).astype(np.float32)
    forms = figures(certain, winners, expected_ious(certain, winners), tagged=tagged)
    assert forms.pop(SERVED) == (0.5 if tagged else 1)
    assert set(forms.values()) == {1}


def test_figures_in_the_order_of_the_truth_are_perfect() -> None:
    true = np.array([0.2, 0.4, 0.6, 0.8])
    ranking, limits = tables("title", true, {SERVED: true, "reversed": 1 - true})
    perfect, reversed_ = zip(*(column.cells for column in ranking.columns), strict=True)
    assert perfect[1:] == ("1.000", "1.000", "0.000")
    assert reversed_[1:3] == ("-1.000", "0.000")
    assert [*zip(*(column.cells for column in limits.columns), strict=True)][2] == ("0.6", "50.0%", "1.00", "1.00")
