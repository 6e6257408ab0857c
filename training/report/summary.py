"""The run in short: a few figures and sentences that say whether it worked, by what that is known, and what is weak."""

from collections.abc import Sequence
from dataclasses import dataclass

from tagmask.wording import count
from training.report.classes import ClassRow, Mixed
from training.report.measured import Measured
from training.report.story import Story
from training.report.validation import Validation
from training.run.duration import duration

WEAK = 2
"""Classes that are named as the weakest."""


@dataclass(frozen=True)
class Card:
    """A figure in large, what it is, and how it came about."""

    value: str
    title: str
    note: str


def masks_name(story: Story) -> str:
    """Whose masks the run is judged by, for people."""
    number, stage = story.shown or (0, "maps")
    if stage == "masks":
        return f"PixelNet's masks of round {number}, each photo's tags given"
    return "the tag classifier's class maps" if number == 0 else f"the {stage} of round {number}"


def cards(story: Story, found: Measured | None, validation: Validation | None) -> list[Card]:
    """The figures to see first: quality, then the round, the photos and the time."""
    told = []
    if validation is not None:
        without, given = validation.without_tags.miou(), validation.with_tags.miou()
        note = f"{count(validation.photos, 'photo')} with true masks; network as exported; no tags given / tags given"
        told.append(Card(f"{without:.1f} / {given:.1f}", f"mIoU on {validation.name}", note))
    told.append(_quality(story, found))
    kept = "-" if story.kept is None else f"{story.kept} of {story.asked.settings.rounds}"
    told.append(Card(kept, "round kept", _why_kept(story)))
    classes = count(len(story.asked.classes), "class")
    told.append(Card(f"{story.asked.photos:,}", "photos", f"{classes} learned, from tags alone"))
    costs = sorted(story.costs(), key=lambda cost: -cost.total)
    if story.seconds:
        note = ", ".join(f"{cost.stage} {cost.total / story.seconds:.0%}" for cost in costs[:3])
        told.append(Card(duration(story.seconds), "in all stages", f"most of it: {note}"))
    return told


def sentences(story: Story, rows: Sequence[ClassRow]) -> list[str]:
    """What happened, a sentence each."""
    told = [_state(story)]
    masks = story.miou("masks", "maps")
    if story.kept and 0 in masks and story.kept in masks:
        first, last = masks[0], masks[story.kept]
        told.append(
            f"From the class maps to the masks of round {story.kept}, mIoU went from {first:.1f} to {last:.1f}"
            f"{_last_gain(story, masks)}."
        )
    weak = [row for row in rows[:-1] if row.quality is not None][:WEAK]
    if weak and len(rows) > WEAK + 1:
        told.append(f"Weakest: {'; '.join(_weakness(row) for row in weak)}.")
    return told


def _quality(story: Story, found: Measured | None) -> Card:
    number, stage = story.shown or (0, "")
    miou = story.find(number, stage).get("miou")
    if miou is None and found is not None and found.masks:
        miou = found.pixels.miou()
    if miou is not None:
        return Card(f"{miou:.1f}", "mIoU on training photos", f"{masks_name(story)}; true masks only measure")
    decision = story.find(number, "decision")
    if "consistency" in decision:
        note = "F1 of the photos' tags and the classes seen when no tags are given; no true masks, so mIoU is not known"
        return Card(f"{decision['consistency']:.3f}", "tag consistency", note)
    return Card("-", "quality", "not known yet, as no round has ended")


def _why_kept(story: Story) -> str:
    if story.kept is None:
        return "no round has ended yet"
    if story.dropped is not None:
        return f"round {story.dropped['round']} was dropped: {story.dropped['why']}"
    return "judged without masks, no round was worse than the one before" if story.kept > 1 else "the first always is"


def _state(story: Story) -> str:
    if story.waiting is not None:
        done = f"{story.done} of {story.steps} steps are done, the next is {story.waiting!r}"
        return f"Not finished: {done}. It was stopped, or is still at work."
    if story.dropped is not None:
        return f"Finished with round {story.dropped['round']}, which was dropped: {story.dropped['why']}."
    return f"Finished: all {story.steps} steps of {count(story.asked.settings.rounds, 'round')} are done."


def _last_gain(story: Story, masks: dict[int, float]) -> str:
    before = (story.kept or 0) - 1
    if before < 1 or before not in masks:
        return ""
    return f", of which the last round gave {masks[before + 1] - masks[before]:+.1f}"


def _weakness(row: ClassRow) -> str:
    """A class, how good it is, and what it is mixed up with."""
    if row.pixels is None:
        if row.iou is not None:
            return f"{row.name} (IoU {row.iou:.1f})"
        found = row.tags.found if row.tags and row.tags.found is not None else 0.0
        wrongly = _mixed(row.tags.wrongly if row.tags else None, "{name} seen in {share:.0f}% though not tagged")
        return f"{row.name} (seen in {found:.0f}% of its photos{wrongly})"
    missed = _mixed(row.pixels.missed, "{share:.0f}% of it taken for {name}")
    spilled = _mixed(row.pixels.spilled, "{share:.0f}% of what is painted is {name}")
    return f"{row.name} (IoU {row.pixels.iou or 0:.1f}{missed}{spilled})"


def _mixed(mixed: Mixed | None, text: str) -> str:
    return "" if mixed is None else ", " + text.format(name=mixed[0], share=mixed[1])
