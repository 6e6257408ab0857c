"""Whether there is reason to retrain."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from flows.collection.lists import Change
from flows.memory import Last, days_since
from flows.settings import WhenSettings


@dataclass(frozen=True)
class Verdict:
    """Whether to retrain, and in sentences why, or why not."""

    retrain: bool
    reasons: tuple[str, ...]


def judge(settings: WhenSettings, change: Change, last: Last | None, now: datetime, *, force: bool) -> Verdict:
    """Whether `change` since the last training, `last`, is reason enough; one reason suffices.

    A class that lost all its photos is one: a model that paints what nobody tags any more misleads.
    """
    for_it = tuple(_reasons(settings, change, last, now, force))
    if for_it:
        return Verdict(True, for_it)
    changed = change.new_photos + change.retagged
    return Verdict(False, (f"{changed:,} new or newly tagged photos, {settings.new_photos:,} are needed",))


def _reasons(settings: WhenSettings, change: Change, last: Last | None, now: datetime, force: bool) -> Iterator[str]:
    changed = change.new_photos + change.retagged
    if force:
        yield "it was asked for"
    if last is None:
        yield "nothing has been trained yet"
        return
    if changed >= settings.new_photos:
        yield f"{changed:,} new or newly tagged photos, {settings.new_photos:,} are enough"
    if settings.new_tag and change.new_classes:
        yield f"new tags with photos enough: {', '.join(change.new_classes)}"
    if change.lost_classes:
        yield f"tags that no longer have photos enough: {', '.join(change.lost_classes)}"
    if settings.after_days is not None and (days := days_since(last.ended, now)) >= settings.after_days:
        yield f"the last training ended {days:.1f} days ago, {settings.after_days:g} are the limit"
