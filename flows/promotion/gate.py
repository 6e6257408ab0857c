"""The promotion gate: whether a challenger becomes champion, by which rules, and why, in words."""

from collections.abc import Iterator, Sequence
from statistics import fmean

from pydantic import BaseModel, ConfigDict, Field

from flows.settings import GateSettings
from training.evaluation.compare import Comparison, Figures
from training.evaluation.measure import PRESENT


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class Rule(_Frozen):
    """One rule as it was applied. `name` is its setting, `value` is held against `limit`; None: nothing to measure."""

    name: str
    value: float | None
    limit: float | None
    passed: bool
    sentence: str


class Decision(_Frozen):
    """Whether a challenger is promoted, and all that this rests on; JSON by `model_dump(mode="json")`."""

    promoted: bool
    champion: str | None = Field(description="version that the challenger was compared with")
    challenger: str
    reason: str = Field(description="one sentence")
    rules: tuple[Rule, ...]
    held_out: str = Field(description="digest of the photos that both were compared on")
    comparison: Comparison


def decide(settings: GateSettings, comparison: Comparison, held_out: str) -> Decision:
    """Apply the rules: with true masks those of mIoU and IoU, else those of the ledger; always the others.

    A challenger must pass every rule; one that equals the champion in all figures does, unless a least gain is above
    0. So that nothing is promoted in its own place, a challenger of the champion's version is not for this gate.
    Without a champion it is promoted. `held_out` is the digest of the compared photos, for the record.
    """
    challenger, champion = comparison.challenger, comparison.champion
    rules = () if champion is None else tuple(_rules(settings, champion, challenger, comparison.agreement))
    failed = [rule.sentence for rule in rules if not rule.passed]
    if champion is None:
        reason = "there is no champion to compare with"
    elif failed:
        reason = f"{len(failed)} of {len(rules)} rules failed: {'; '.join(failed)}"
    else:
        reason = f"all {len(rules)} rules passed: {rules[0].sentence}"
    return Decision(
        promoted=not failed,
        champion=champion.version if champion else None,
        challenger=challenger.version,
        reason=reason,
        rules=rules,
        held_out=held_out,
        comparison=comparison,
    )


def figure_rows(decision: Decision) -> list[dict[str, str]]:
    """A row a figure, for a table: "figure", "champion" and "challenger"; IoU a class comes last."""
    champion, challenger = decision.comparison.champion, decision.comparison.challenger
    columns = [_told(champion) if champion else {}, _told(challenger)]
    names = dict.fromkeys(name for column in reversed(columns) for name in column)
    return [
        {"figure": name, "champion": columns[0].get(name, "-"), "challenger": columns[1].get(name, "-")}
        for name in names
    ]


def text(decision: Decision) -> str:
    """The decision for a terminal: a line, a line a rule, and what it is about."""
    lines = [f"  {'passed' if rule.passed else 'failed'}  {rule.name:16}  {rule.sentence}" for rule in decision.rules]
    return "\n".join([heading(decision), *lines, _about(decision)])


def heading(decision: Decision) -> str:
    """Who won, and why, in one line."""
    verdict = "is promoted" if decision.promoted else f"is not promoted, {decision.champion} stays champion"
    return f"{decision.challenger} {verdict}: {decision.reason}"


def _about(decision: Decision) -> str:
    compared = decision.comparison
    skipped = f", {len(compared.faults)} skipped" if compared.faults else ""
    return f"Measured on {compared.photos} held-out photos{skipped} (digest {decision.held_out[:12]})."


def _told(figures: Figures) -> dict[str, str]:
    measured = {
        "mIoU": figures.miou,
        "tag consistency (F1)": figures.consistency,
        "coverage": figures.coverage,
        "ms a photo": 1000 * figures.seconds,
        "MB": figures.bytes / 1e6,
    } | {f"IoU {name}": value for name, value in figures.iou.items()}
    told = {name: f"{value:.3g}" for name, value in measured.items() if value is not None}
    return {"classes": ", ".join(figures.classes[1:]), **told}


def _rules(settings: GateSettings, champion: Figures, challenger: Figures, agreement: float | None) -> Iterator[Rule]:
    forgotten = [name for name in champion.classes if name not in challenger.classes]
    if champion.iou:
        yield _miou_gain(settings.miou_gain, champion, challenger, forgotten if settings.lost_classes else [])
        yield _class_loss(settings.class_loss, champion, challenger)
    else:
        yield _consistency_gain(settings.consistency_gain, champion.consistency, challenger.consistency)
        yield _coverage_change(settings.coverage_change, champion.coverage, challenger.coverage)
        yield _agreement(settings.agreement, agreement)
    times = f"{1000 * challenger.seconds:.1f} ms a photo against {1000 * champion.seconds:.1f}"
    yield _factor("latency_factor", challenger.seconds / champion.seconds, settings.latency_factor, times)
    sizes = f"{challenger.bytes / 1e6:.2f} MB against {champion.bytes / 1e6:.2f}"
    yield _factor("size_factor", challenger.bytes / champion.bytes, settings.size_factor, sizes)
    yield _lost_classes(settings.lost_classes, forgotten)


def _miou_gain(least: float, champion: Figures, challenger: Figures, left_out: Sequence[str]) -> Rule:
    """Over all classes of both that the masks show, as a class that one does not know counts 0 for it."""
    counted = [name for name in champion.iou if name not in left_out]
    if not counted:
        return _unmeasured("miou_gain", least, "the true masks show only classes that were forgotten")
    old, new = (fmean(figures.iou[name] for name in counted) for figures in (champion, challenger))
    why = f"mIoU {new:.2f} against {old:.2f}: {new - old:+.2f}, at least {least:+.2f} is needed"
    return Rule(name="miou_gain", value=new - old, limit=least, passed=new - old >= least, sentence=why)


def _class_loss(most: float, champion: Figures, challenger: Figures) -> Rule:
    """Over the classes that both know; what was forgotten is for `_lost_classes`."""
    known = [name for name in champion.iou if name in champion.classes and name in challenger.classes]
    if not known:
        return _unmeasured("class_loss", most, "the true masks show no class that both know")
    losses = {name: champion.iou[name] - challenger.iou[name] for name in known}
    worst = sorted(known, key=lambda name: -losses[name])
    told = [name for name in worst if losses[name] > most] or worst[:1]
    changes = ", ".join(f"{name} {challenger.iou[name]:.2f} against {champion.iou[name]:.2f}" for name in told)
    lost = "greatest loss of IoU" if losses[worst[0]] > 0 else "no class lost IoU, least gained"
    why = f"{lost}: {changes}; a loss of at most {most:.2f} points is allowed"
    return Rule(name="class_loss", value=losses[worst[0]], limit=most, passed=losses[worst[0]] <= most, sentence=why)


def _consistency_gain(least: float, old: float, new: float) -> Rule:
    why = f"tag consistency {new:.3f} against {old:.3f}: {new - old:+.3f}, at least {least:+.3f} is needed"
    return Rule(name="consistency_gain", value=new - old, limit=least, passed=new - old >= least, sentence=why)


def _coverage_change(most: float, old: float | None, new: float | None) -> Rule:
    """A factor, whichever is the greater; what is below PRESENT is as good as nothing, and counts as PRESENT."""
    if old is None or new is None:
        return _unmeasured("coverage_change", most, "no photo has tags that both know alone")
    factor = max(old, new, PRESENT) / max(min(old, new), PRESENT)
    why = f"tags cover {new:.3f} of a photo against {old:.3f}: a factor of {factor:.2f}, at most {most:.2f} is allowed"
    return Rule(name="coverage_change", value=factor, limit=most, passed=factor <= most, sentence=why)


def _agreement(least: float, share: float | None) -> Rule:
    if share is None:
        return _unmeasured("agreement", least, "no photo has tags that both know alone")
    why = f"both label {share:.3f} of the pixels alike, at least {least:.3f} is needed"
    return Rule(name="agreement", value=share, limit=least, passed=share >= least, sentence=why)


def _factor(name: str, factor: float, most: float, told: str) -> Rule:
    why = f"{told}: a factor of {factor:.2f}, at most {most:.2f} is allowed"
    return Rule(name=name, value=factor, limit=most, passed=factor <= most, sentence=why)


def _lost_classes(allowed: bool, forgotten: Sequence[str]) -> Rule:
    why = f"forgotten: {', '.join(forgotten)}" if forgotten else "no class is forgotten"
    if forgotten:
        why += ", which is allowed" if allowed else ", none may be"
    limit = None if allowed else 0.0
    passed = allowed or not forgotten
    return Rule(name="lost_classes", value=len(forgotten), limit=limit, passed=passed, sentence=why)


def _unmeasured(name: str, limit: float, why: str) -> Rule:
    """A rule that asks for nothing, as there is nothing to measure."""
    return Rule(name=name, value=None, limit=limit, passed=True, sentence=f"{why}, so nothing is asked")
