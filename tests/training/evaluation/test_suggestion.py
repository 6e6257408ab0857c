"""Which photos to correct first."""

import numpy as np

from training.evaluation.suggestion import ClassDoubt, choose


def test_the_most_doubtful_photo_comes_first_then_one_of_another_kind():
    kinds = np.array([[0, 0], [0, 0.1], [5, 0], [5, 0.1], [0, 5]], dtype=np.float32)
    doubts = np.array([0.9, 0.8, 0.5, 0.4, 0.3])
    assert choose(doubts, kinds, 1) == [0]
    assert set(choose(doubts, kinds, 3)) == {0, 2, 4}
    assert sorted(choose(doubts, kinds, 9)) == [0, 1, 2, 3, 4]


def test_photos_of_one_kind_come_in_order_of_doubt():
    alike = np.zeros((3, 2), dtype=np.float32)
    assert choose(np.array([0.2, 0.7, 0.5]), alike, 3)[0] == 1
    random = np.random.default_rng(0).normal(size=(40, 64)).astype(np.float32)  # all as far from each other
    doubts = np.linspace(0, 1, 40)
    assert set(choose(doubts, random, 8)) <= set(range(28, 40))


def test_what_is_corrected_is_left_out_and_so_is_its_kind():
    kinds = np.array([[0, 0], [0.1, 0.1], [5, 5], [5.1, 5.1]], dtype=np.float32)
    doubts = np.array([np.nan, 0.9, 0.5, 0.4])
    assert choose(doubts, kinds, 1) == [2]
    assert set(choose(doubts, kinds, 9)) == {1, 2, 3}
    assert choose(np.array([np.nan, np.nan]), kinds[:2], 5) == []


def test_a_doubt_is_of_both_parts():
    assert ClassDoubt(1.0, 1.0).doubt == 0
    assert ClassDoubt(0.5, 0.25).doubt == 0.625
