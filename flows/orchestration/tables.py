"""What a flow did and why, as pages: stages, classes, promotion, what was collected, why it retrains."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from flows.collection import Collected
from flows.collection.snapshots import Snapshot
from flows.orchestration.artifact import Page, plain, table
from tagmask.masks import MAX_CLASSES
from training.run.duration import duration
from training.run.ledger import Line, remark

FAULTS_SHOWN = 20
"""Photos set aside that are named one by one."""


class Rule(Protocol):
    """One rule of the promotion gate; `value` and `limit` are None where they are no numbers."""

    @property
    def name(self) -> str: ...
    @property
    def value(self) -> float | None: ...
    @property
    def limit(self) -> float | None: ...
    @property
    def passed(self) -> bool: ...
    @property
    def sentence(self) -> str: ...


class Decision(Protocol):
    """What the promotion gate decided: versions, whether the challenger is promoted, and why in one sentence."""

    @property
    def promoted(self) -> bool: ...
    @property
    def champion(self) -> str | None: ...
    @property
    def challenger(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def rules(self) -> Sequence[Rule]: ...


def stages_page(ledger: Iterable[Line]) -> Page:
    """What each stage of a run cost and how good it was, from its ledger; mIoU only where it was measured."""
    lines = list(ledger)
    total = duration(sum(line.get("seconds", 0.0) for line in lines))
    header = ("round", "stage", "photos", "time", _unbroken("ms a photo"), "mIoU", "")
    rows = [_stage_row(line) for line in lines] + [("", "all", "", _unbroken(total), "", "", "")]
    decided = [line for line in lines if line["stage"] == "decision"]
    summary = f"{_count(len(decided), 'round')} in {total}"
    if kept := [line["round"] for line in decided if line["kept"]]:
        measured = [line for line in lines if line["round"] == kept[-1] and line["stage"] == "masks" and "miou" in line]
        quality = f", mIoU of its masks {measured[-1]['miou']:.1f}" if measured else ""
        summary += f"; round {kept[-1]} kept{quality}"
    return Page("stages", summary, table(header, rows, "llrrrrl"))


def classes_page(figures: Mapping[str, Mapping[str, float | None]], miou: Mapping[str, float | None]) -> Page:
    """IoU of each class by each model, in percent: {class: {"champion": 0..100 or None, …}}, and {model: mIoU}.

    With two models the second is compared with the first. A figure is None, or absent, where there is none.
    """
    models = list(miou)
    rows = [_figures_row(name, row, models) for name, row in figures.items()]
    rows.append(_figures_row("mean", miou, models))
    header = ["class", *models, *(["change"] if len(models) == 2 else [])]
    told = ", ".join(f"{plain(model)} {_points(value)}" for model, value in miou.items())
    return Page("classes", f"mIoU: {told}; {_count(len(figures), 'class')}", table(header, rows, "l" + "r" * 3))


def promotion_page(decision: Decision, figures: Sequence[Mapping[str, str]] = ()) -> Page:
    """Whether the challenger became champion, and by which rules; those that failed come first.

    `figures`, if given, are the rows of a second table, each with the same columns: one to name it, and one a model.
    """
    champion, challenger = decision.champion, decision.challenger
    if decision.promoted:
        summary = f"promoted: {challenger} is champion" + (f" in place of {champion}" if champion else "")
    else:
        summary = f"not promoted: {challenger}; {champion} stays champion"
    parts = [f"{plain(decision.reason)}."]
    if decision.rules:
        rows = [
            ("✓" if rule.passed else "✗", rule.name, _number(rule.value), _number(rule.limit), rule.sentence)
            for rule in sorted(decision.rules, key=lambda rule: rule.passed)
        ]
        parts.append(table(("", "rule", "value", "limit", "what it says"), rows, "llrrl"))
    if figures:
        columns = list(figures[0])
        parts += ["### Figures", table(columns, [list(row.values()) for row in figures], "l" + "r" * len(columns[1:]))]
    return Page("promotion", plain(summary), "\n\n".join(parts))


def collected_page(collected: Collected, snapshot: Snapshot) -> Page:
    """What was taken in and what was set aside and why, and the data set that came of it."""
    quarantined, left_out = collected.quarantined, collected.left_out
    photos = _count(snapshot.photos, "photo")
    summary = f"{_count(collected.taken, 'new photo')}, {len(quarantined):,} in quarantine; {photos} to learn from"
    told = [
        f"{_count(collected.taken, 'photo')} taken in, {collected.retagged:,} tagged anew, "
        f"{collected.untagged:,} without a tag asked for.",
        f"The data set has {photos} of {_count(len(snapshot.classes), 'class')} to learn from, and "
        f"{snapshot.held_out_photos:,} held out, which never train and only compare models.",
    ]
    if snapshot.gone:
        told.append(f"{_count(snapshot.gone, 'photo')} left out, as the file is no longer in the workspace.")
    parts = [" ".join(told)]
    for title, column, counts in (
        ("Classes", "class", snapshot.per_class),
        ("Tags of too few photos to be learned", "tag", snapshot.rare),
    ):
        parts += _listed(title, (column, "photos"), _by_number(counts), "lr", MAX_CLASSES)
    for title, faults in (("In quarantine", quarantined), ("Left out, and tried again next time", left_out)):
        parts += _listed(title, ("file", "reason"), [(fault.where, fault.why) for fault in faults], "ll", FAULTS_SHOWN)
    return Page("collected", summary, "\n\n".join(parts))


def retraining_page(retrain: bool, reasons: Sequence[str]) -> Page:
    """Whether to retrain, and why or why not, a sentence each."""
    summary = "retraining" if retrain else "not retraining"
    first = f": {reasons[0]}" if reasons else ""
    return Page("retraining", plain(summary + first), "".join(f"- {plain(reason)}\n" for reason in reasons))


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
    """`text` on one line, however narrow its column."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def _figures_row(name: str, row: Mapping[str, float | None], models: Sequence[str]) -> list[str]:
    values = [row.get(model) for model in models]
    cells = [name, *map(_points, values)]
    if len(values) == 2:
        before, after = values
        cells.append("" if before is None or after is None else f"{after - before:+.1f}")
    return cells


def _points(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.3f}".rstrip("0").rstrip(".")


def _count(number: int, what: str) -> str:
    plural = "es" if what.endswith("s") else "s"
    return f"{number:,} {what}{'' if number == 1 else plural}"


def _by_number(counts: Mapping[str, int]) -> list[tuple[str, str]]:
    return [(name, f"{number:,}") for name, number in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]


def _listed(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], align: str, most: int) -> list[str]:
    """A heading and a table of the first `most` rows; nothing where there are none."""
    if not rows:
        return []
    more = [f"… and {len(rows) - most:,} more"] if len(rows) > most else []
    return [f"### {title}", table(header, rows[:most], align), *more]
