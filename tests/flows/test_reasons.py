from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.collection.lists import Change
from flows.promotion.publication import Promotion
from flows.reasons import reasons_to_retrain
from flows.settings import TriggerSettings
from flows.state import FinishedTraining

NOW = datetime(2030, 5, 1, tzinfo=UTC)
NOTHING = Change(0, 0, 0, (), ())

names = st.lists(st.sampled_from(["cat", "cow", "dog"]), unique=True).map(tuple)
numbers = st.integers(0, 300)
changes = st.builds(Change, numbers, numbers, numbers, names, names, numbers)
settings = st.builds(
    TriggerSettings,
    new_photos=st.integers(1, 300),
    corrected=st.integers(1, 300),
    new_tag=st.booleans(),
    after_days=st.none() | st.floats(0.1, 100),
)


def last(days: float = 1.0) -> FinishedTraining:
    return FinishedTraining(
        photos=Path("list.jsonl"),
        data_digest="d",
        key="k",
        promotion=Promotion(version="v", promoted=True, reason="better"),
        finished_at=NOW - timedelta(days=days),
    )


@pytest.mark.parametrize(
    ("change", "retrain", "words"),
    [
        (NOTHING, False, "0 new or retagged photos, 100 required"),
        (Change(60, 39, 500, (), ()), False, "99 new or retagged photos, 100 required"),
        (Change(60, 40, 0, (), ()), True, "100 new or retagged photos, 100 required"),
        (Change(0, 0, 0, (), (), 20), True, "20 photos with new corrections, 20 required"),
        (Change(1, 0, 0, ("sheep",), ()), True, "new classes: sheep"),
        (Change(0, 3, 0, (), ("cow", "dog")), True, "classes without enough photos: cow, dog"),
    ],
)
def test_what_is_reason_enough(change, retrain, words):
    verdict = reasons_to_retrain(TriggerSettings(), change, last(), NOW, force=False)
    assert (verdict.train, verdict.reasons) == (retrain, (words,))


def test_a_few_corrections_are_not_enough_but_told():
    verdict = reasons_to_retrain(TriggerSettings(), Change(0, 0, 0, (), (), 19), last(), NOW, force=False)
    assert verdict.reasons[1] == "19 photos with new corrections, 20 required"
    assert not verdict.train


def test_a_lost_champion_is_reason_enough():
    verdict = reasons_to_retrain(TriggerSettings(), NOTHING, last(), NOW, force=False, lost=True)
    assert (verdict.train, verdict.reasons) == (True, ("the store has no champion, and has lost version v",))


def test_the_first_training_needs_no_other_reason():
    assert reasons_to_retrain(TriggerSettings(), NOTHING, None, NOW, force=False).train


def test_age_counts_only_when_it_is_asked_to():
    assert not reasons_to_retrain(TriggerSettings(), NOTHING, last(1000), NOW, force=False).train
    assert not reasons_to_retrain(TriggerSettings(after_days=7), NOTHING, last(6.9), NOW, force=False).train
    assert reasons_to_retrain(TriggerSettings(after_days=7), NOTHING, last(7), NOW, force=False).train


def test_a_new_tag_counts_only_when_it_is_asked_to():
    change = Change(1, 0, 0, ("sheep",), ())
    assert not reasons_to_retrain(TriggerSettings(new_tag=False), change, last(), NOW, force=False).train


@given(settings, changes, changes, st.floats(0, 200), st.floats(0, 200), st.booleans())
def test_more_change_and_more_time_are_never_less_reason(settings, change, more, days, further, force):
    greater = Change(
        change.new_photos + more.new_photos,
        change.retagged + more.retagged,
        change.lost_photos + more.lost_photos,
        tuple(sorted({*change.new_classes, *more.new_classes})),
        tuple(sorted({*change.lost_classes, *more.lost_classes})),
        change.corrected + more.corrected,
    )
    before = reasons_to_retrain(settings, change, last(days), NOW, force=False)
    after = reasons_to_retrain(settings, greater, last(days + further), NOW, force=force)
    assert after.reasons
    assert after.train >= max(before.train, force)
