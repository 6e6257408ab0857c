"""Artifacts of a flow: collected photos, reasons to retrain, stages, classes and promotion."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from flows.collection.snapshots import Snapshot
from flows.collection.update import Update
from flows.orchestration.artifact import Artifact, escape, table
from flows.promotion.gate import GateDecision, figure_rows
from tagmask.masks import MAX_CLASSES
from tagmask.wording import count
from training.evaluation.compare import Comparison
from training.run.duration import duration
from training.run.ledger import Line, remark

MAX_FAULTS = 20
"""Maximum number of unusable photos that are listed by name."""


def stages_artifact(ledger: Iterable[Line]) -> Artifact:
    """Time and quality of each stage of a run, from its ledger; mIoU only where it was measured."""
    lines = list(ledger)
    total = duration(sum(line.get("seconds", 0.0) for line in lines))
    header = ("round", "stage", "photos", "time", _unbroken("ms per photo"), "mIoU", "")
    rows = [_stage_row(line) for line in lines] + [("", "all", "", _unbroken(total), "", "", "")]
    decided = [line for line in lines if line["stage"] == "decision"]
    summary = f"{count(len(decided), 'round')} in {total}"
    if kept := [line["round"] for line in decided if line["kept"]]:
        measured = [line for line in lines if line["round"] == kept[-1] and line["stage"] == "masks" and "miou" in line]
        quality = f", mIoU of its masks {measured[-1]['miou']:.1f}" if measured else ""
        summary += f"; round {kept[-1]} kept{quality}"
    return Artifact("stages", summary, table(header, rows, "llrrrrl"))


def classes_artifact(comparison: Comparison) -> Artifact:
    """IoU of each class in percent, by the challenger and, if there is one, the champion, with the change."""
    champion, challenger = comparison.champion, comparison.challenger
    models = {"champion": champion, "challenger": challenger} if champion else {"challenger": challenger}
    rows = [_iou_row(name, [figures.iou[name] for figures in models.values()]) for name in challenger.iou]
    means = {model: fmean(figures.iou.values()) for model, figures in models.items()}
    rows.append(_iou_row("mean", list(means.values())))
    header = ["class", *models, *(["change"] if champion else [])]
    summary = ", ".join(f"{model} {miou:.1f}" for model, miou in means.items())
    classes = count(len(challenger.iou), "class")
    return Artifact("classes", f"mIoU: {summary}; {classes}", table(header, rows, "l" + "r" * (len(header) - 1)))


def promotion_artifact(decision: GateDecision) -> Artifact:
    """Whether the challenger is promoted, by which rules, with failed ones first, and the figures of both models."""
    champion, challenger = decision.champion, decision.challenger
    if decision.promoted:
        summary = f"promoted: {challenger} is champion" + (f", replacing {champion}" if champion else "")
    else:
        remaining = f"{champion} remains champion" if champion else "there is still no champion"
        summary = f"not promoted: {challenger}; {remaining}"
    parts = [f"{escape(decision.reason)}."]
    if decision.rules:
        rows = [
            ("✓" if rule.passed else "✗", rule.name, _number(rule.value), _number(rule.limit), rule.sentence)
            for rule in sorted(decision.rules, key=lambda rule: rule.passed)
        ]
        parts.append(table(("", "rule", "value", "limit", "explanation"), rows, "llrrl"))
    parts += ["### Figures", table(("figure", "champion", "challenger"), figure_rows(decision.comparison), "lrr")]
    return Artifact("promotion", escape(summary), "\n\n".join(parts))


def collection_artifact(update: Update, snapshot: Snapshot) -> Artifact:
    """What was ingested, what was left out and why, and the resulting data set."""
    photos = count(snapshot.photos, "photo")
    summary = f"{count(update.added, 'new photo')}, {len(update.quarantined):,} quarantined; {photos} to train on"
    sentences = [
        f"{count(update.added, 'photo')} added, {update.retagged:,} retagged, "
        f"{update.untagged:,} without any of the requested tags.",
        f"The data set has {photos} of {count(len(snapshot.classes), 'class')} to train on, {snapshot.empty:,} of "
        f"which show nothing, and a held-out set of {count(snapshot.held_out_photos, 'photo')} to compare models.",
    ]
    if snapshot.missing:
        sentences.append(f"{count(snapshot.missing, 'photo')} left out: the file is no longer in the workspace.")
    parts = [" ".join(sentences)]
    for title, column, counts in (
        ("Classes", "class", snapshot.per_class),
        ("Tags with too few photos", "tag", snapshot.rare),
    ):
        parts += _section(title, (column, "photos"), _by_number(counts), "lr", MAX_CLASSES)
    for title, faults in (("Quarantined", update.quarantined), ("Skipped, to be retried", update.skipped)):
        parts += _section(title, ("file", "reason"), [(fault.where, fault.why) for fault in faults], "ll", MAX_FAULTS)
    return Artifact("collected", summary, "\n\n".join(parts))


def retraining_artifact(retrain: bool, reasons: Sequence[str]) -> Artifact:
    """Whether to retrain, with at least one reason for or against it, each a sentence."""
    summary = f"{'retraining' if retrain else 'not retraining'}: {reasons[0]}"
    return Artifact("retraining", escape(summary), "".join(f"- {escape(reason)}\n" for reason in reasons))


def _stage_row(line: Line) -> tuple[str, ...]:
    seconds, photos = line.get("seconds"), line.get("photos")
    return (
        str(line["round"]),
        line["stage"],
        f"{photos:,}" if photos else "",
        "" if seconds is None else _unbroken(duration(seconds)),
        f"{1000 * seconds / photos:,.0f}" if seconds is not None and photos else "",
        f"{line['miou']:.1f}" if "miou" in line else "",
        remark(line),
    )


def _unbroken(text: str) -> str:
    """`text` without line breaks, however narrow its column."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def _iou_row(name: str, values: Sequence[float]) -> list[str]:
    change = [f"{values[1] - values[0]:+.1f}"] if len(values) == 2 else []
    return [name, *(f"{value:.1f}" for value in values), *change]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.3f}".rstrip("0").rstrip(".")


def _by_number(counts: Mapping[str, int]) -> list[tuple[str, str]]:
    return [(name, f"{number:,}") for name, number in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]


def _section(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], align: str, maximum: int) -> list[str]:
    """A heading and a table of the first `maximum` rows; nothing without rows."""
    if not rows:
        return []
    more = [f"… and {len(rows) - maximum:,} more"] if len(rows) > maximum else []
    return [f"### {title}", table(header, rows[:maximum], align), *more]
