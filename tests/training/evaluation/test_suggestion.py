"""Which photos to correct first."""

import numpy as np

from training.evaluation.suggestion import ClassDoubt, choose


def test_one_of_each_kind_comes_before_a_second_one():
    kinds = np.array([[0, 0], [0, 0.1], [5, 0], [5, 0.1], [0, 5]], dtype=np.float32)
    doubts = np.array([0.9, 0.8, 0.5, 0.4, 0.3])
    assert choose(doubts, kinds, 1)[0] in (0, 1)
    assert {place // 2 for place in choose(doubts, kinds, 3)} == {0, 1, 2}
    assert sorted(choose(doubts, kinds, 9)) == [0, 1, 2, 3, 4]


def test_a_typical_photo_comes_before_an_odd_one():
    random = np.random.default_rng(0)
    kinds = np.vstack([np.eye(3) * 5 + random.normal(0, 0.3, 3) for _ in range(6)]).astype(np.float32)
    kinds = np.vstack([kinds, [[-9, 9, -9]]])  # the odd one
    doubts = np.full(len(kinds), 0.5)
    doubts[-1] = 1.0
    assert {place % 3 for place in choose(doubts, kinds, 3)} == {0, 1, 2}
    assert len(kinds) - 1 not in choose(doubts, kinds, 3)


def test_of_photos_alike_the_most_doubtful_comes_first():
    assert choose(np.array([0.2, 0.7, 0.5]), np.zeros((3, 2), dtype=np.float32), 3) == [1, 2, 0]


def test_what_is_corrected_is_left_out_and_so_is_its_kind():
    kinds = np.array([[0, 0], [0.1, 0.1], [5, 5], [5.1, 5.1]], dtype=np.float32)
    doubts = np.array([np.nan, 0.9, 0.5, 0.4])
    assert choose(doubts, kinds, 1) == [2]
    assert set(choose(doubts, kinds, 9)) == {1, 2, 3}
    assert choose(np.array([np.nan, np.nan]), kinds[:2], 5) == []


def test_a_doubt_is_of_both_parts():
    assert ClassDoubt(1.0, 1.0).doubt == 0
    assert ClassDoubt(0.5, 0.25).doubt == 0.625
