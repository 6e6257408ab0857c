from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tagmask.corrections import Correction
from training.datasets.photos import Photo
from training.fitting.sampling import draw_epoch, photo_shares

TAGS = st.lists(st.sets(st.sampled_from("abc"), max_size=3), min_size=1, max_size=60)


def photos(*tags: str | set[str]) -> list[Photo]:
    return [Photo(f"{number}", Path(), tuple(sorted(each))) for number, each in enumerate(tags)]


def test_of_a_frequent_tag_a_part_is_shown_of_a_rare_one_all():
    many = photos(*["a"] * 90, *["b"] * 10)
    shown = photo_shares(many, 30)
    np.testing.assert_allclose(shown, [1 / 3] * 90 + [1] * 10)
    for epoch in range(3):
        tags = Counter(many[index].tags[0] for index in draw_epoch(shown, epoch, 3, seed=5))
        assert tags == {"a": 30, "b": 10}


def test_a_photo_of_several_tags_is_shown_as_its_rarest_asks():
    assert photo_shares(photos(*["a"] * 8, *["ab"] * 2), 5).tolist() == [0.5] * 8 + [1] * 2


def test_photos_with_a_correction_are_shown_in_every_epoch():
    corrected = [replace(each, correction=Correction((1, 1), ())) for each in photos("a", "a", "")]
    assert photo_shares([*photos(*["a"] * 8), *corrected], 5).tolist() == [0.5] * 8 + [1] * 3


def test_photos_without_tags_are_shown_at_most_as_often_as_others():
    assert photo_shares(photos("", "a", "a"), 1).tolist() == [1, 0.5, 0.5]
    np.testing.assert_allclose(photo_shares(photos(*[""] * 9, *["a"] * 6), 3), [1 / 3] * 9 + [0.5] * 6)


@given(tags=TAGS, most=st.integers(60, 100))
def test_where_no_tag_is_frequent_every_epoch_shows_every_photo(tags: list[set[str]], most: int):
    tagged = [{"a"} | each for each in tags]
    shown = photo_shares(photos(*tagged), most)
    assert (shown == 1).all()
    assert draw_epoch(shown, 2, 3, seed=1).tolist() == list(range(len(tags)))


@given(tags=TAGS, most=st.integers(1, 20), epochs=st.integers(1, 12), seed=st.integers(0, 2**31))
@example(tags=[set(), {"a"}, {"a"}, {"a"}], most=1, epochs=1, seed=0)  # their sum is rounded below 2
def test_photos_take_turns(tags: list[set[str]], most: int, epochs: int, seed: int):
    shown = photo_shares(photos(*tags), most)
    assert ((shown > 0) & (shown <= 1)).all()
    length, times = round(shown.sum()), np.zeros(len(tags), int)
    assert shown.sum() == pytest.approx(length)
    for epoch in range(epochs):
        indices = draw_epoch(shown, epoch, epochs, seed)
        assert len(indices) == length >= 1
        assert (np.diff(indices) > 0).all()  # none twice
        times[indices] += 1
    assert (np.abs(times - epochs * shown) < 1 + 1e-6).all()


@given(tags=TAGS, most=st.integers(1, 20))
def test_an_epoch_shows_about_as_many_photos_of_a_tag_as_asked(tags: list[set[str]], most: int):
    """As many when photos have one tag each, but for the one photo that makes an epoch's photos whole."""
    several = photos(*[sorted(each)[:1] for each in tags])
    having = Counter(tag for photo in several for tag in photo.tags)
    for tag, count in having.items():
        shown = sum(
            share for share, photo in zip(photo_shares(several, most), several, strict=True) if tag in photo.tags
        )
        assert min(most, count) - 1 < shown <= min(most, count) + 1e-6


def test_another_seed_draws_other_photos():
    shown = photo_shares(photos(*["a"] * 50), 10)
    first, again, other = (draw_epoch(shown, 0, 5, seed).tolist() for seed in (1, 1, 2))
    assert first == again != other
