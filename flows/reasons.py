"""Whether there is a reason to train."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from flows.collection.lists import Change
from flows.settings import TriggerSettings
from flows.state import FinishedTraining
from tagmask.wording import count


@dataclass(frozen=True)
class Verdict:
    """Whether to train, with at least one reason for or against it, each a sentence."""

    train: bool
    reasons: tuple[str, ...]


def reasons_to_retrain(
    settings: TriggerSettings,
    change: Change,
    last: FinishedTraining | None,
    now: datetime,
    *,
    force: bool,
    lost: bool = False,
) -> Verdict:
    """Whether `change` since the `last` training is enough to retrain; one reason suffices.

    A class that lost all its photos is a reason: a model that paints what nobody tags any more misleads. So is a store
    that has `lost` the bundle of the last training and has no champion.
    """
    reasons = tuple(_reasons(settings, change, last, now, force, lost))
    if reasons:
        return Verdict(True, reasons)
    required = (f"{_count(change)}, {settings.new_photos:,} required",)
    return Verdict(False, (*required, _corrected(settings, change)) if change.corrected else required)


def _reasons(
    settings: TriggerSettings, change: Change, last: FinishedTraining | None, now: datetime, force: bool, lost: bool
) -> Iterator[str]:
    if force:
        yield "retraining was forced"
    if last is None:
        yield "this is the first training"
        return
    if lost:
        yield f"the store has no champion, and has lost version {last.promotion.version}"
    if change.new_photos + change.retagged >= settings.new_photos:
        yield f"{_count(change)}, {settings.new_photos:,} required"
    if change.corrected >= settings.corrected:
        yield _corrected(settings, change)
    if settings.new_tag and change.new_classes:
        yield f"new classes: {', '.join(change.new_classes)}"
    if change.lost_classes:
        yield f"classes without enough photos: {', '.join(change.lost_classes)}"
    if settings.after_days is not None:
        days = (now - last.finished_at).total_seconds() / 86_400
        if days >= settings.after_days:
            yield f"the last training finished {days:.1f} days ago, the limit is {settings.after_days:g}"


def _corrected(settings: TriggerSettings, change: Change) -> str:
    return f"{count(change.corrected, 'photo')} with new corrections, {settings.corrected:,} required"


def _count(change: Change) -> str:
    return count(change.new_photos + change.retagged, "new or retagged photo")
