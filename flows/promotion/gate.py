"""The promotion gate: whether a challenger becomes champion, by which rules, and why."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

from pydantic import BaseModel, Field

from flows.settings import GateSettings
from tagmask.wording import count
from training.evaluation.compare import Comparison, Figures, Gain
from training.evaluation.painted import RARE, vanished
from training.stages.masks import PRESENT

FOUND = 2.0
"""IoU in points from which a class counts as found by the champion."""


class Rule(BaseModel, frozen=True, allow_inf_nan=False):
    """One rule as applied: `value` of the setting `name` against its `limit`; None if nothing was to be measured."""

    name: str
    value: float | None
    limit: float | None
    passed: bool
    sentence: str


class GateDecision(BaseModel, frozen=True, allow_inf_nan=False):
    """Whether a challenger is promoted, with all the evidence; JSON by `model_dump(mode="json")`."""

    promoted: bool
    champion: str | None = Field(description="version that the challenger was compared with")
    challenger: str
    reason: str = Field(description="one sentence")
    rules: tuple[Rule, ...]
    held_out: str = Field(description="digest of the photos that the models were compared on")
    comparison: Comparison


def decide(settings: GateSettings, comparison: Comparison, held_out: str) -> GateDecision:
    """Apply the rules: those of mIoU and IoU with ground-truth masks, the label-free ones without; then the rest.

    With enough held-out corrections the mIoU on these takes the place of its estimate.
    A challenger must pass every rule. One with the champion's figures does, unless a minimum gain is above 0, so
    `comparison` must be of two different versions. Without a champion, a challenger only has to label something.
    `held_out` is the digest of the photos, for the record.
    """
    challenger, champion = comparison.challenger, comparison.champion
    if champion is None:
        rules: tuple[Rule, ...] = (_min_coverage(settings.min_coverage, challenger.coverage),)
    else:
        rules = tuple(_rules(settings, champion, challenger, comparison))
    failed = [rule.sentence for rule in rules if not rule.passed]
    if failed:
        reason = f"{len(failed)} of {count(len(rules), 'rule')} failed: {'; '.join(failed)}"
    elif champion is None:
        reason = "there is no champion yet"
    else:
        reason = f"all {len(rules)} rules passed: {rules[0].sentence}"
    return GateDecision(
        promoted=not failed,
        champion=champion.version if champion else None,
        challenger=challenger.version,
        reason=reason,
        rules=rules,
        held_out=held_out,
        comparison=comparison,
    )


def figure_rows(comparison: Comparison) -> list[tuple[str, str, str]]:
    """The name of each figure and its values of champion and challenger; the IoU of each class comes last."""
    challenger = _values(comparison.challenger)
    champion = _values(comparison.champion) if comparison.champion else {}
    return [(name, champion.get(name, "-"), challenger.get(name, "-")) for name in challenger | champion]


def text(decision: GateDecision) -> str:
    """The decision for a terminal: a heading, one line per rule, and the photos it is based on."""
    comparison = decision.comparison
    rules = [f"  {'passed' if rule.passed else 'failed'}  {rule.name:16}  {rule.sentence}" for rule in decision.rules]
    photos = count(comparison.photos, "held-out photo")
    skipped = f", {len(comparison.faults)} skipped" if comparison.faults else ""
    return "\n".join([heading(decision), *rules, f"Measured on {photos}{skipped} (digest {decision.held_out[:12]})."])


def heading(decision: GateDecision) -> str:
    """The decision and its reason in one line."""
    remaining = f"{decision.champion} remains champion" if decision.champion else "there is still no champion"
    verdict = "is promoted" if decision.promoted else f"is not promoted, {remaining}"
    return f"{decision.challenger} {verdict}: {decision.reason}"


def _values(figures: Figures) -> dict[str, str]:
    measured = {
        "mIoU": figures.miou,
        "estimated mIoU": fmean(figures.estimated_iou.values()) if figures.estimated_iou else None,
        "tag consistency (F1)": figures.consistency,
        "coverage": figures.coverage,
        "ms per photo": 1000 * figures.seconds,
        "MB": figures.bytes / 1e6,
    }
    measured |= {f"painted {name}": value for name, value in figures.painted.items()}
    measured |= {f"IoU {name}": value for name, value in figures.iou.items()}
    numbers = {name: f"{value:.3g}" for name, value in measured.items() if value is not None}
    return {"classes": ", ".join(figures.classes[1:]), **numbers}


def _rules(settings: GateSettings, champion: Figures, challenger: Figures, comparison: Comparison) -> Iterator[Rule]:
    lost = [name for name in champion.classes if name not in challenger.classes]
    if champion.iou:
        yield _miou_gain(settings.miou_gain, champion, challenger, lost if settings.lost_classes else [])
        yield _class_loss(settings.class_loss, champion, challenger)
    else:
        if comparison.corrected:
            yield _corrected_gain(settings.miou_gain, comparison.corrected)
        else:
            yield _estimate_loss(settings.estimate_loss, champion.estimated_iou, challenger.estimated_iou)
        yield _consistency_gain(settings.consistency_gain, champion.consistency, challenger.consistency)
        if champion.coverage is not None and champion.coverage < settings.min_coverage:  # no measure of the others
            yield _min_coverage(settings.min_coverage, challenger.coverage)
        else:
            yield _coverage_change(settings.coverage_change, champion.coverage, challenger.coverage)
            yield _agreement(settings.agreement, comparison.agreement)
    yield _latency_factor(settings.latency_factor, champion, challenger)
    yield _size_factor(settings.size_factor, champion, challenger)
    yield _vanished_classes(settings.vanished_classes, champion, challenger)
    yield _classes_rule("lost", settings.lost_classes, lost)


def _miou_gain(minimum: float, champion: Figures, challenger: Figures, excluded: Sequence[str]) -> Rule:
    """Over the classes of both models that occur in the masks; a class that a model lacks counts as IoU 0."""
    counted = [name for name in champion.iou if name not in excluded]
    if not counted:
        return _unmeasured("miou_gain", minimum, "the ground-truth masks contain only lost classes")
    old, new = (fmean(figures.iou[name] for name in counted) for figures in (champion, challenger))
    sentence = f"mIoU {new:.2f}, was {old:.2f}: {new - old:+.2f}, minimum {minimum:+.2f}"
    return Rule(name="miou_gain", value=new - old, limit=minimum, passed=new - old >= minimum, sentence=sentence)


def _class_loss(maximum: float, champion: Figures, challenger: Figures) -> Rule:
    """Over the classes that both models have; `lost_classes` covers the others."""
    shared = [name for name in champion.iou if name in champion.classes and name in challenger.classes]
    if not shared:
        return _unmeasured("class_loss", maximum, "the ground-truth masks contain no class that both models have")
    losses = {name: champion.iou[name] - challenger.iou[name] for name in shared}
    worst = sorted(shared, key=lambda name: -losses[name])
    listed = [name for name in worst if losses[name] > maximum] or worst[:1]
    changes = ", ".join(f"{name} {challenger.iou[name]:.2f}, was {champion.iou[name]:.2f}" for name in listed)
    loss = losses[worst[0]]
    title = "largest loss in IoU" if loss > 0 else "no class lost IoU, smallest gain"
    sentence = f"{title}: {changes}; maximum loss {maximum:.2f} points"
    return Rule(name="class_loss", value=loss, limit=maximum, passed=loss <= maximum, sentence=sentence)


def _corrected_gain(minimum: float, corrected: Gain) -> Rule:
    """Fails only if the gain is below the minimum beyond chance, as a few photos tell no more."""
    gain = corrected.gain
    sentence = (
        f"mIoU {corrected.challenger:.1f} on {corrected.photos:,} corrected photos, was {corrected.champion:.1f}: "
        f"{gain.value:+.1f} ({gain.low:+.1f} to {gain.high:+.1f}), minimum {minimum:+.2f}"
    )
    return Rule(name="miou_gain", value=gain.value, limit=minimum, passed=gain.high >= minimum, sentence=sentence)


def _estimate_loss(maximum: float, old: Mapping[str, float], new: Mapping[str, float]) -> Rule:
    """Over the classes that both models have; `lost_classes` covers the others."""
    shared = [name for name in old if name in new]
    if not shared:
        return _unmeasured("estimate_loss", maximum, "a model has no estimate of its mIoU")
    before, after = (fmean(iou[name] for name in shared) for iou in (old, new))
    sentence = f"estimated mIoU {after:.1f}, was {before:.1f}; maximum loss {maximum:.1f} points"
    loss = before - after
    return Rule(name="estimate_loss", value=loss, limit=maximum, passed=loss <= maximum, sentence=sentence)


def _consistency_gain(minimum: float, old: float, new: float) -> Rule:
    gain = new - old
    sentence = f"tag consistency {new:.3f}, was {old:.3f}: {gain:+.3f}, minimum {minimum:+.3f}"
    return Rule(name="consistency_gain", value=gain, limit=minimum, passed=gain >= minimum, sentence=sentence)


def _min_coverage(minimum: float, coverage: float | None) -> Rule:
    if coverage is None:
        return _unmeasured("min_coverage", minimum, "no photo has only tags that the model has")
    sentence = f"{coverage:.3f} of a photo is covered, minimum {minimum:.3f}"
    return Rule(name="min_coverage", value=coverage, limit=minimum, passed=coverage >= minimum, sentence=sentence)


def _coverage_change(maximum: float, old: float | None, new: float | None) -> Rule:
    """The larger coverage by the smaller; below PRESENT nothing counts as painted, so both are at least PRESENT."""
    if old is None or new is None:
        return _unmeasured("coverage_change", maximum, "no photo has only tags that both models have")
    ratio = max(old, new, PRESENT) / max(min(old, new), PRESENT)
    return _ratio("coverage_change", ratio, maximum, f"{new:.3f} of a photo is covered, was {old:.3f}")


def _agreement(minimum: float, share: float | None) -> Rule:
    if share is None:
        return _unmeasured("agreement", minimum, "no photo has only tags that both models have")
    sentence = f"{share:.3f} of the pixels have the same label, minimum {minimum:.3f}"
    return Rule(name="agreement", value=share, limit=minimum, passed=share >= minimum, sentence=sentence)


def _latency_factor(maximum: float, champion: Figures, challenger: Figures) -> Rule:
    if champion.precision != challenger.precision:
        return _unmeasured("latency_factor", maximum, _precisions(champion, challenger))
    if champion.graph == challenger.graph:
        return _unmeasured("latency_factor", maximum, "both models compute the same, so their times differ by chance")
    times = f"{1000 * challenger.seconds:.1f} ms per photo, was {1000 * champion.seconds:.1f}"
    return _ratio("latency_factor", challenger.seconds / champion.seconds, maximum, times)


def _size_factor(maximum: float, champion: Figures, challenger: Figures) -> Rule:
    if champion.precision != challenger.precision:
        return _unmeasured("size_factor", maximum, _precisions(champion, challenger))
    sizes = f"{challenger.bytes / 1e6:.2f} MB, was {champion.bytes / 1e6:.2f}"
    return _ratio("size_factor", challenger.bytes / champion.bytes, maximum, sizes)


def _precisions(champion: Figures, challenger: Figures) -> str:
    """Why time and size are not compared: the setting `precision` has changed, which the user chose for them."""
    return f"the precision is {challenger.precision}, was {champion.precision}"


def _ratio(name: str, ratio: float, maximum: float, figures: str) -> Rule:
    sentence = f"{figures}: ratio {ratio:.2f}, maximum {maximum:.2f}"
    return Rule(name=name, value=ratio, limit=maximum, passed=ratio <= maximum, sentence=sentence)


def _vanished_classes(allowed: bool, champion: Figures, challenger: Figures) -> Rule:
    """By the photos on which a class is painted with tags and, without tags, by an IoU that fell to nearly nothing."""
    gone = vanished(champion.painted, challenger.painted)
    for name, old in champion.iou.items():
        new = challenger.iou[name]
        if name in challenger.classes and old >= FOUND and new < RARE * old:
            gone.setdefault(name, f"IoU {new:.2f}, was {old:.2f}")
    return _classes_rule("vanished", allowed, [f"{name} ({figures})" for name, figures in gone.items()])


def _classes_rule(fate: str, allowed: bool, gone: Sequence[str]) -> Rule:
    permission = "allowed" if allowed else "not allowed"
    sentence = f"{fate} classes: {', '.join(gone)} ({permission})" if gone else f"no {fate} classes"
    limit = None if allowed else 0.0
    return Rule(name=f"{fate}_classes", value=len(gone), limit=limit, passed=allowed or not gone, sentence=sentence)


def _unmeasured(name: str, limit: float, reason: str) -> Rule:
    """A rule that passes because there is nothing to measure."""
    return Rule(name=name, value=None, limit=limit, passed=True, sentence=f"not applicable: {reason}")
