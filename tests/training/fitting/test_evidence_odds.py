from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from training.datasets.photos import Photo, TaggedPhotos
from training.fitting.evidence_odds import (
    LEVELS,
    RegionScores,
    border_share,
    evidence_weights,
    level,
    object_share,
    offset_changes,
    saliency_agreement,
    saliency_odds,
    tag_offsets,
)


def scored(scores: NDArray[Any], saliency: NDArray[Any], area: NDArray[Any]) -> RegionScores:
    """Superpixels of `area` pixels, of which all but the first are away from the border."""
    border = np.where(np.arange(len(area)) == 0, area, 0)
    return RegionScores(scores.astype(np.float32), saliency.astype(np.float32), area, border)


def photos(agreement: float, count: int = 20) -> list[RegionScores]:
    """Photos of 100 superpixels, 20 of which are the object; saliency marks the object with `agreement`, 0..1."""
    random = np.random.default_rng(0)
    found = []
    for _ in range(count):
        shown = np.arange(100) < 20
        noise = random.random(100)
        saliency = np.where(random.random(100) < agreement, np.where(shown, 0.95, 0.05), noise)
        scores = np.where(shown, 3.0, -3.0) + random.normal(0, 1, 100)
        found.append(scored(scores[:, None], saliency, np.full(100, 10)))
    return found


def test_saliency_that_agrees_with_the_scores_counts_and_noise_does_not():
    believed, ignored = saliency_odds(photos(0.9)), saliency_odds(photos(0.0))
    assert believed[0] < -1
    assert believed[-1] > 1.5
    assert np.abs(ignored).max() < 0.6


def test_saliency_that_marks_the_background_counts_against_the_object():
    turned = [replace(each, saliency=1 - each.saliency) for each in photos(0.9)]
    odds = saliency_odds(turned)
    assert odds[0] > 1.5
    assert odds[-1] < -1


def test_agreement_is_high_for_saliency_that_follows_the_scores_and_one_half_for_noise():
    follows, noise = saliency_agreement(photos(0.9)), saliency_agreement(photos(0.0))
    assert follows is not None
    assert follows > 0.85
    assert noise is not None
    assert abs(noise - 0.5) < 0.05
    flat = [replace(each, saliency=np.zeros_like(each.saliency)) for each in photos(0.9)]
    assert saliency_agreement(flat) == 0.5
    most = flat[:11] + photos(0.9)[11:]
    assert saliency_agreement(most) == 0.5  # what happens on most photos counts
    nothing = scored(np.zeros((4, 0)), np.zeros(4), np.ones(4, int))
    assert saliency_agreement([nothing]) is None


def test_photos_without_tags_are_background_alone():
    nothing = [scored(np.zeros((4, 0)), np.linspace(0, 1, 4), np.ones(4, int))]
    odds = saliency_odds(nothing)
    assert np.isfinite(odds).all()
    with_nothing = saliency_odds(photos(0.9) + [scored(np.zeros((4, 0)), np.full(4, 0.95), np.ones(4, int))] * 20)
    assert with_nothing[-1] < saliency_odds(photos(0.9))[-1]  # high saliency where nothing is says less


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 5), st.floats(0, 50))
def test_odds_are_finite(seed: int, count: int, spread: float):
    random = np.random.default_rng(seed)
    given_photos = [
        scored(random.normal(0, spread, (6, 2)), random.random(6), random.integers(1, 9, 6)) for _ in range(count)
    ]
    odds = saliency_odds(given_photos)
    assert odds.shape == (LEVELS,)
    assert np.isfinite(odds).all()


def test_levels_reach_from_first_to_last():
    assert level(np.array([0, 0.0999, 0.1, 1], np.float32)).tolist() == [0, 0, 1, LEVELS - 1]


def test_offsets_are_the_log_odds_of_a_tag_and_the_rarity():
    photos = tuple(Photo(str(i), Path(), ("cat",) if i < 3 else ()) for i in range(4))
    offsets = tag_offsets(TaggedPhotos(Path(), ("cat", "dog"), photos), 1.5)
    np.testing.assert_allclose(offsets, [np.log(3) + 1.5, np.log(0.001 / 0.999) + 1.5], rtol=1e-5)


def shares_of_objects(share: float, tags: int, rarity: float, count: int = 40) -> list[RegionScores]:
    """Photos whose superpixels show an object with the probability `share`. What is measured of one is drawn from
    N(2, 4) where it shows an object, from N(-2, 4) elsewhere, so that it is the log likelihood ratio itself."""
    random, nothing = np.random.default_rng(0), np.full((200, tags), -20.0)
    found = []
    for _ in range(count):
        scores = nothing.copy()
        scores[:, 0] = random.normal(np.where(random.random(200) < share, 2, -2), 2) - rarity
        found.append(scored(scores, np.zeros(200), np.full(200, 10)))
    return found


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("rarity", [0.0, 1.4])
def test_the_share_of_objects_is_found_from_any_prior(share: float, rarity: float):
    found = object_share(shares_of_objects(share, 2, rarity), np.zeros(LEVELS), rarity)
    assert abs(found - share) < 0.04


def test_photos_of_one_tag_do_not_tell_the_share_of_objects():
    several, alone = shares_of_objects(0.8, 2, 1.4, 20), shares_of_objects(0.8, 1, 1.4, 20)
    assert object_share(several + alone, np.zeros(LEVELS), 1.4) > 0.7
    assert object_share(several + alone + alone[:1], np.zeros(LEVELS), 1.4) == 0
    assert object_share([], np.zeros(LEVELS), 1.4) == 0


def data_of(*tags: tuple[str, ...]) -> TaggedPhotos:
    return TaggedPhotos(Path(), ("cat", "dog"), tuple(Photo(str(i), Path(), each) for i, each in enumerate(tags)))


@pytest.mark.parametrize(("share", "change"), [(0.9, -np.log(9) - 1.4), (0.3, 0)])
def test_tags_that_cover_scenes_are_not_rare(share: float, change: float):
    photos = shares_of_objects(share, 2, 1.4)
    data, odds = data_of(*[("cat", "dog")] * len(photos)), np.zeros(LEVELS)
    changes = offset_changes(data, photos, odds, 1.4, object_share(photos, odds, 1.4))
    np.testing.assert_allclose(changes, [change, change], atol=0.4)


def test_a_class_that_is_alone_covers_no_more_than_a_thing_does():
    """Dogs cover all of their photos; of half of a cat's photo, its saliency says that it is no cat."""
    dogs = [scored(np.full((4, 1), 9), np.zeros(4), np.array([1, 2, 3, 4]))] * 2
    cats = [scored(np.full((4, 1), 1), np.array([0, 0, 1, 1]), np.full(4, 5))]
    odds = np.linspace(-2, 0, LEVELS)
    np.testing.assert_allclose(offset_changes(data_of(("dog",), ("dog",), ("cat",)), dogs + cats, odds, 1.4, 0), [1, 7])


def test_a_class_that_is_mostly_among_others_stays_as_it_is():
    one = scored(np.full((4, 1), 9), np.zeros(4), np.full(4, 5))
    two = scored(np.full((4, 2), 9), np.zeros(4), np.full(4, 5))
    data = data_of(("cat",), ("cat", "dog"), ("dog",), ("dog",))
    np.testing.assert_allclose(offset_changes(data, [one, two, one, one], np.zeros(LEVELS), 1.4, 0), [0, 9])


def test_evidence_counts_less_the_more_photos_masks_were_learned_from():
    weights = evidence_weights(data_of(*[("cat",)] * 40, *[("cat", "dog")] * 80))
    np.testing.assert_allclose(weights, [1 / 4, 1 / 3])
    assert (evidence_weights(data_of(("cat",))) > 0.97).all()


def test_the_border_of_a_photo_has_the_pixels_within_a_thirtieth_of_its_shorter_side():
    regions = np.zeros((60, 90), np.int32)
    regions[1:59, 30:60] = 1
    regions[10:50, 40:50] = 2
    found = RegionScores.of(np.zeros((3, 1), np.float32), np.zeros(3, np.float32), regions)
    assert found.area.tolist() == [60 * 90 - 58 * 30, 58 * 30 - 400, 400]
    assert found.border.tolist() == [60 * 90 - 56 * 86 - 60, 2 * 30, 0]  # a row above, and one below


def test_the_share_of_borders_is_that_of_photos_of_one_tag():
    sure = scored(np.array([[9], [-9]]), np.zeros(2), np.full(2, 5))
    unsure = scored(np.array([[-9], [9]]), np.ones(2), np.full(2, 5))
    two = scored(np.full((2, 2), 9), np.zeros(2), np.full(2, 5))
    assert border_share([sure, unsure, two], np.zeros(LEVELS)) == pytest.approx(0.5, abs=0.01)
    odds = np.linspace(-18, 18, LEVELS)  # the border of the first is not salient, that of the second is
    assert border_share([sure, unsure], odds) == pytest.approx(0.5, abs=0.01)
    assert border_share([sure, two], np.zeros(LEVELS)) == 0
    assert border_share([], np.zeros(LEVELS)) == 0
