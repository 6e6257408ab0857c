from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.collection.lists import Change
from flows.state import Last
from flows.settings import TriggerSettings
from flows.reasons import judge

NOW = datetime(2030, 5, 1, tzinfo=UTC)
NOTHING = Change(0, 0, 0, (), ())

names = st.lists(st.sampled_from(["cat", "cow", "dog"]), unique=True).map(tuple)
numbers = st.integers(0, 300)
changes = st.builds(Change, numbers, numbers, numbers, names, names)
settings = st.builds(
    TriggerSettings,
    new_photos=st.integers(1, 300),
    new_tag=st.booleans(),
    after_days=st.none() | st.floats(0.1, 100),
)


def last(days: float = 1.0) -> Last:
    return Last(
        photos=Path("list.jsonl"),
        data_digest="d",
        key="k",
        version="v",
        promoted=True,
        reason="better",
        ended=NOW - timedelta(days=days),
    )


@pytest.mark.parametrize(
    ("change", "retrain", "words"),
    [
        (NOTHING, False, "0 new or newly tagged photos, 100 are needed"),
        (Change(60, 39, 500, (), ()), False, "99 new or newly tagged photos, 100 are needed"),
        (Change(60, 40, 0, (), ()), True, "100 new or newly tagged photos, 100 are enough"),
        (Change(1, 0, 0, ("sheep",), ()), True, "new tags with photos enough: sheep"),
        (Change(0, 3, 0, (), ("cow", "dog")), True, "tags that no longer have photos enough: cow, dog"),
    ],
)
def test_what_is_reason_enough(change, retrain, words):
    verdict = judge(TriggerSettings(), change, last(), NOW, force=False)
    assert (verdict.retrain, verdict.reasons) == (retrain, (words,))


def test_the_first_training_needs_no_other_reason():
    assert judge(TriggerSettings(), NOTHING, None, NOW, force=False).retrain


def test_age_counts_only_when_it_is_asked_to():
    assert not judge(TriggerSettings(), NOTHING, last(1000), NOW, force=False).retrain
    assert not judge(TriggerSettings(after_days=7), NOTHING, last(6.9), NOW, force=False).retrain
    assert judge(TriggerSettings(after_days=7), NOTHING, last(7), NOW, force=False).retrain


def test_a_new_tag_counts_only_when_it_is_asked_to():
    change = Change(1, 0, 0, ("sheep",), ())
    assert not judge(TriggerSettings(new_tag=False), change, last(), NOW, force=False).retrain


@given(settings, changes, changes, st.floats(0, 200), st.floats(0, 200), st.booleans())
def test_more_change_and_more_time_are_never_less_reason(settings, change, more, days, further, force):
    greater = Change(
        change.new_photos + more.new_photos,
        change.retagged + more.retagged,
        change.lost_photos + more.lost_photos,
        tuple(sorted({*change.new_classes, *more.new_classes})),
        tuple(sorted({*change.lost_classes, *more.lost_classes})),
    )
    before = judge(settings, change, last(days), NOW, force=False)
    after = judge(settings, greater, last(days + further), NOW, force=force)
    assert after.reasons
    assert after.retrain >= max(before.retrain, force)
