from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.evaluation.estimate import ERROR, Line, SignCounter, Signs, estimate, sentence

SURE = 30.0


def counted(
    odds: list[float], shares: list[list[float]], area: list[int], labels: tuple[int, ...] = (0, 1)
) -> SignCounter:
    """One photo with the tag 1, of two classes."""
    signs = SignCounter(2)
    signs.add(labels, np.array(area), np.array(odds)[:, None], np.array(shares))
    return signs


def test_signs_worked_by_hand():
    """Of 10 pixels the evidence has the first 4; the mask has the first 2, 3 others, and a void pixel."""
    background, cat, dog = counted([SURE, -SURE], [[0.5, 0.5, 0], [0.5, 0.5, 0]], [4, 6]).signs()
    assert cat.supported == pytest.approx(2 / (5 + 4 - 2))
    assert background.supported == pytest.approx(3 / (5 + 6 - 3))
    assert (cat.whole, background.whole) == (0, 0)
    assert asdict(dog) == {"supported": 0, "whole": 0}


def test_evidence_counts_as_far_as_it_is_sure():
    _, cat, _ = counted([0.0, -SURE], [[0, 1, 0], [1, 0, 0]], [5, 5]).signs()
    assert cat.supported == pytest.approx(0.5)


def test_tags_that_are_equally_likely_share_what_they_speak_for():
    signs = SignCounter(2)
    signs.add((0, 1, 2), np.array([5, 5]), np.array([[SURE, SURE], [-SURE, -SURE]]), np.array([[0, 1, 0], [1, 0, 0]]))
    assert [each.supported for each in signs.signs()] == pytest.approx([1, 0.5, 0])


def test_a_class_that_covers_its_photos_is_named():
    signs = counted([SURE, -SURE], [[0, 1, 0], [0, 1, 0]], [5, 5]).signs()
    assert signs[1].whole == 1
    assert estimate(signs, ("cat", "dog")).remarks == [
        "masks cover whole photos of cat",
        "masks mark little of what indicates dog",
    ]


def test_a_photo_that_shows_nothing_supports_background_alone():
    signs = SignCounter(1)
    signs.add((0,), np.array([3, 4]), np.zeros((2, 0)), np.array([[1.0, 0], [1.0, 0]]))
    assert [each.supported for each in signs.signs()] == [1, 0]


def test_iou_is_a_share_in_percent():
    assert Line(constant=10, slope=50).iou(Signs(supported=0.5, whole=0)) == 35
    assert Line(constant=90, slope=50).iou(Signs(supported=1, whole=0)) == 100
    assert Line(constant=-9, slope=50).iou(Signs(supported=0, whole=0)) == 0


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000))
def test_masks_that_follow_the_evidence_are_expected_to_be_better_than_spoiled_ones(seed: int):
    random = np.random.default_rng(seed)
    good, whole, nothing, others = (SignCounter(2) for _ in range(4))
    for _ in range(8):
        label = int(random.integers(1, 3))
        area = random.integers(1, 50, 40)
        object_, other = (random.random(40) < 0.3 for _ in range(2))
        odds = np.where(object_, 4.0, -4.0)[:, None]
        everything = np.ones(40, dtype=bool)
        for signs, mask in ((good, object_), (whole, everything), (nothing, ~everything), (others, other)):
            shares = np.zeros((40, 3))
            shares[mask, label], shares[~mask, 0] = 1, 1
            signs.add((0, label), area, odds, shares)
    first, *spoiled = (estimate(signs.signs(), ("cat", "dog")).miou for signs in (good, whole, nothing, others))
    assert all(first > each + ERROR for each in spoiled)


def test_the_sentence_says_what_is_wrong():
    values = asdict(estimate([Signs(0.9, 0), Signs(0.6, 0), Signs(0.2, 1)], ("cat", "scratch")))
    text = sentence(values)
    assert text.startswith(f"estimated mIoU {values['miou']:.0f} ± {ERROR} with tags given: ")
    assert text.endswith("masks cover whole photos of scratch")
    assert sentence({**values, "remarks": []}).endswith("with tags given")
