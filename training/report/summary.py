"""The run in a few figures and sentences: whether it worked, by which measure, and its weakest classes."""

from collections.abc import Sequence
from dataclasses import dataclass

from tagmask.wording import count
from training.evaluation.estimate import sentence
from training.evaluation.warnings import warnings
from training.report.classes import ClassRow, Confused
from training.report.measured import Measurements
from training.report.story import Story
from training.report.validation import Validation
from training.run.duration import duration
from training.stages.masks import Masks

WEAK = 2
"""Classes that are named as the weakest."""


@dataclass(frozen=True)
class Card:
    """A large figure, its title, and how it was measured."""

    value: str
    title: str
    note: str


def masks_name(story: Story) -> str:
    """Display name of the masks by which the run is judged."""
    stage = story.judged
    if isinstance(stage, Masks):
        return f"PixelNet's masks of round {stage.round}, with each photo's tags"
    if stage is None or stage.round == 0:
        return "the tag classifier's class maps"
    return f"the {stage.name} of round {stage.round}"


def cards(story: Story, measured: Measurements | None, validation: Validation | None) -> list[Card]:
    """The main figures: quality, then the round, the photos and the time."""
    cards = []
    if validation is not None:
        without_tags, with_tags = validation.without_tags.miou(), validation.with_tags.miou()
        note = f"{count(validation.photos, 'photo')} with true masks; network as exported; without tags / with tags"
        cards.append(Card(f"{without_tags:.1f} / {with_tags:.1f}", f"mIoU on {validation.name}", note))
    if figures := story.measured:
        without, given = figures.without_tags, figures.with_tags
        intervals = f"95% intervals {without.low:.0f} to {without.high:.0f} / {given.low:.0f} to {given.high:.0f}"
        photos = count(figures.photos, "held-out correction")
        note = f"{photos}; network as exported; without tags / with tags; {intervals}"
        cards.append(Card(f"{without.value:.0f} / {given.value:.0f}", "measured mIoU", note))
    cards.append(_quality(story, measured))
    kept = "-" if story.kept is None else f"{story.kept} of {story.description.settings.rounds}"
    cards.append(Card(kept, "round kept", _why_kept(story)))
    classes = count(len(story.description.classes), "class")
    cards.append(Card(f"{story.description.photos:,}", "photos", f"{classes} learned, from {_supervision(story)}"))
    costs = sorted(story.costs(), key=lambda cost: -cost.total)
    if story.seconds:
        note = ", ".join(f"{cost.stage} {cost.total / story.seconds:.0%}" for cost in costs[:3])
        cards.append(Card(duration(story.seconds), "for all stages", f"longest: {note}"))
    return cards


def sentences(story: Story, rows: Sequence[ClassRow]) -> list[str]:
    """What happened, in sentences."""
    sentences = [_state(story)]
    masks = story.miou("masks", "class_maps")
    if story.kept and 0 in masks and story.kept in masks:
        first, last = masks[0], masks[story.kept]
        before = masks.get(story.kept - 1) if story.kept > 1 else None
        gain = "" if before is None else f", of which the last round gave {last - before:+.1f}"
        change = f"mIoU went from {first:.1f} to {last:.1f}{gain}"
        sentences.append(f"From the class maps to the masks of round {story.kept}, {change}.")
    weak = [row for row in rows[:-1] if row.quality is not None][:WEAK]
    if weak and len(rows) > WEAK + 1:
        sentences.append(f"Weakest: {'; '.join(_weakness(row) for row in weak)}.")
    if values := story.decision.get("estimate"):
        sentences.append(f"Without true masks: {sentence(values)}.")
    if figures := story.measured:
        sentences.append(f"The network as exported, {figures}.")
    network = story.description.settings.saliency.network
    evidence = story.find(story.kept or 1, "evidence")
    sentences += [f"{text}." for text in warnings(network, evidence, story.decision)]
    return sentences


def _supervision(story: Story) -> str:
    network = story.description.settings.saliency.network
    sources = ["tags"]
    if network:
        sources.append("a saliency network (most learned from masks of others)")
    if hinted := story.description.hinted:
        sources.append(f"hints on {count(hinted, 'photo')}")
    if corrected := story.description.corrected - len(story.description.held_out):
        sources.append(f"corrections of {count(corrected, 'photo')}")
    return " and ".join(sources) if len(sources) > 1 else "tags alone"


def _quality(story: Story, measured: Measurements | None) -> Card:
    line = story.find(*story.judged.id) if story.judged else {}
    miou = line.get("miou")
    if miou is None and measured is not None and measured.masks:
        miou = measured.pixels.miou()
    if miou is not None:
        note = f"{masks_name(story)}; true masks are used only to measure"
        return Card(f"{miou:.1f}", "mIoU on training photos", note)
    if values := story.decision.get("estimate"):
        note = f"estimated without true masks, for {masks_name(story)}"
        return Card(f"{values['miou']:.0f} ± {values['error']:.0f}", "mIoU to expect", note)
    if "consistency" in story.decision:  # of an earlier version
        note = "F1 of the photos' tags and the classes seen without tags; mIoU is unknown without true masks"
        return Card(f"{story.decision['consistency']:.3f}", "tag consistency", note)
    return Card("-", "quality", "unknown until the first round has finished")


def _why_kept(story: Story) -> str:
    if story.kept is None:
        return "no round has finished yet"
    if story.dropped is not None:
        return f"round {story.dropped['round']} was dropped: {story.dropped['why']}"
    if story.kept > 1:
        return "judged without masks, no round was worse than the one before"
    return "; ".join(filter(None, ("the first round is always kept", story.find(1, "decision").get("why"))))


def _state(story: Story) -> str:
    if story.waiting is not None:
        done = f"{story.done} of {story.steps} stages are done, the next is {story.waiting!r}"
        return f"Not finished: {done}. The run was stopped, or is still working."
    if story.dropped is not None:
        return f"Finished with round {story.dropped['round']}, which was dropped: {story.dropped['why']}."
    return f"Finished: all {story.steps} stages of {count(story.description.settings.rounds, 'round')} are done."


def _weakness(row: ClassRow) -> str:
    """A class, its quality, and the classes that it is confused with."""
    if row.pixels is None:
        if row.iou is not None:
            return f"{row.name} (IoU {row.iou:.1f})"
        recall = row.tags.recall if row.tags and row.tags.recall is not None else 0.0
        extra = _confused(row.tags.extra if row.tags else None, "{name} seen in {share:.0f}% without the tag")
        return f"{row.name} (seen in {recall:.0f}% of its photos{extra})"
    missed = _confused(row.pixels.missed, "{share:.0f}% labelled {name}")
    spilled = _confused(row.pixels.spilled, "{share:.0f}% of its pixels are really {name}")
    return f"{row.name} (IoU {row.pixels.iou or 0:.1f}{missed}{spilled})"


def _confused(confused: Confused | None, text: str) -> str:
    return "" if confused is None else ", " + text.format(name=confused[0], share=confused[1])
