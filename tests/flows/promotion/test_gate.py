import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.promotion.gate import GateDecision, decide, figure_rows, heading, text
from flows.settings import GateSettings
from tagmask.errors import Fault
from tagmask.scores import Interval
from training.evaluation.compare import Comparison, Figures, Gain

SETTINGS = GateSettings()
HELD_OUT = "fedcba9876543210" * 4
OLD = Figures(
    version="a" * 12,
    data_digest="1" * 64,
    classes=("background", "cat", "dog"),
    precision="fp32",
    bytes=10_000_000,
    seconds=0.05,
    graph="e" * 64,
    iou={},
    consistency=0.8,
    coverage=0.3,
    painted={"cat": 0.9, "dog": 0.8},
    estimated_iou={"background": 80.0, "cat": 50.0, "dog": 50.0},
)
IOU = {"background": 80.0, "cat": 60.0, "dog": 40.0}


def changed(figures: Figures, **changes: Any) -> Figures:
    return Figures.model_validate(figures.model_dump() | {"version": "b" * 12, "graph": "f" * 64} | changes)


def judged(
    champion: Figures | None,
    challenger: Figures,
    agreement: float | None = 0.9,
    settings: GateSettings = SETTINGS,
    corrected: Gain | None = None,
) -> GateDecision:
    compared = Comparison(
        challenger=challenger, champion=champion, agreement=agreement, photos=9, faults=(), corrected=corrected
    )
    return decide(settings, compared, HELD_OUT)


def failed(decision: GateDecision) -> set[str]:
    return {rule.name for rule in decision.rules if not rule.passed}


MASKED = changed(OLD, version=OLD.version, graph=OLD.graph, iou=IOU)


@pytest.mark.parametrize("champion", [OLD, MASKED])
def test_an_equal_challenger_passes_every_rule(champion: Figures):
    decision = judged(champion, changed(champion))
    assert (decision.promoted, failed(decision)) == (True, set())
    assert (decision.champion, decision.challenger, decision.held_out) == ("a" * 12, "b" * 12, HELD_OUT)


def test_time_and_size_are_compared_in_one_precision_only():
    int8 = changed(OLD, precision="int8", bytes=3_000_000, seconds=0.02)
    for champion, challenger in ((OLD, int8), (int8, changed(OLD))):
        decision = judged(champion, challenger)
        assert decision.promoted
        rules = {rule.name: rule for rule in decision.rules}
        for name in ("latency_factor", "size_factor"):
            assert rules[name].value is None
            assert rules[name].sentence == (
                f"not applicable: the precision is {challenger.precision}, was {champion.precision}"
            )
    assert failed(judged(int8, changed(int8, bytes=6_000_000))) == {"size_factor"}


def test_true_masks_go_before_the_ledger():
    names = [[rule.name for rule in judged(champion, changed(champion)).rules] for champion in (MASKED, OLD)]
    always = ["latency_factor", "size_factor", "vanished_classes", "lost_classes"]
    assert names[0] == ["miou_gain", "class_loss", *always]
    assert names[1] == ["estimate_loss", "consistency_gain", "coverage_change", "agreement", *always]
    assert judged(MASKED, changed(MASKED, consistency=0.0, coverage=1.0), agreement=0.0).promoted


@pytest.mark.parametrize(
    ("low", "high", "minimum", "promoted"),
    [(-8.0, -0.1, 0, False), (-8.0, 0.1, 0, True), (1.0, 3.0, 2, True), (1.0, 1.9, 2, False), (-8.0, -1.0, -2, True)],
)
def test_held_out_corrections_go_before_the_estimate(low: float, high: float, minimum: float, promoted: bool):
    gain = Gain(photos=12, challenger=55.0, champion=57.0, gain=Interval(-2.0, low, high))
    worse = changed(OLD, estimated_iou={"background": 10, "cat": 10, "dog": 10})
    decision = judged(OLD, worse, settings=GateSettings(miou_gain=minimum), corrected=gain)
    assert failed(decision) == (set() if promoted else {"miou_gain"})
    assert "estimate_loss" not in [rule.name for rule in decision.rules]
    figures = f"mIoU 55.0 on 12 corrected photos, was 57.0: -2.0 ({low:+.1f} to {high:+.1f}), minimum {minimum:+.2f}"
    assert decision.rules[0].sentence == figures
    assert GateDecision.model_validate_json(decision.model_dump_json()) == decision


@pytest.mark.parametrize(
    ("champion", "changes", "agreement", "rules"),
    [
        (MASKED, {"iou": IOU | {"cat": 59.0}}, None, {"miou_gain"}),
        (MASKED, {"iou": {"background": 90, "cat": 70, "dog": 34.9}}, None, {"class_loss"}),
        (MASKED, {"iou": {"background": 90, "cat": 70, "dog": 35}}, None, set()),
        (MASKED, {"iou": {"background": 74, "cat": 90, "dog": 40}}, None, {"class_loss"}),
        (OLD, {"estimated_iou": {"background": 80, "cat": 45, "dog": 39.9}}, 0.9, {"estimate_loss"}),
        (OLD, {"estimated_iou": {"background": 80, "cat": 45, "dog": 40, "cow": 0}}, 0.9, set()),
        (OLD, {"estimated_iou": {}}, 0.9, set()),
        (OLD, {"consistency": 0.78}, 0.9, {"consistency_gain"}),
        (OLD, {"consistency": 0.795}, 0.9, set()),
        (OLD, {"coverage": 0.61}, 0.9, {"coverage_change"}),
        (OLD, {"coverage": 0.14}, 0.9, {"coverage_change"}),
        (OLD, {"coverage": 0.21}, 0.9, set()),
        (OLD, {}, 0.59, {"agreement"}),
        (OLD, {"seconds": 0.08, "bytes": 14_000_000}, 0.9, {"latency_factor"}),
        (OLD, {"seconds": 0.07, "bytes": 16_000_000}, 0.9, {"size_factor"}),
        (OLD, {"classes": ("background", "dog", "sheep")}, 0.9, {"lost_classes"}),
        (OLD, {"painted": {"cat": 0.9, "dog": 0.39}}, 0.9, {"vanished_classes"}),
        (OLD, {"painted": {"cat": 0.45, "dog": 0.4}}, 0.9, set()),
        (MASKED, {"painted": {"cat": 0.9, "dog": 0.0}}, None, {"vanished_classes"}),
        (OLD, {"coverage": None, "painted": {}}, None, set()),
    ],
)
def test_each_rule_has_its_limit(champion: Figures, changes: dict[str, Any], agreement: float | None, rules: set[str]):
    decision = judged(champion, changed(champion, **changes), agreement)
    assert failed(decision) == rules
    assert decision.promoted is not bool(rules)


def test_the_sentences_name_figures_and_limits():
    better = changed(MASKED, iou={"background": 90.0, "cat": 52.5, "dog": 50.0})
    rules = {rule.name: rule for rule in judged(MASKED, better).rules}
    assert rules["miou_gain"].sentence == "mIoU 64.17, was 60.00: +4.17, minimum +0.00"
    assert rules["class_loss"].sentence == ("largest loss in IoU: cat 52.50, was 60.00; maximum loss 5.00 points")
    assert "failed  class_loss        largest loss in IoU" in text(judged(MASKED, better))
    assert rules["latency_factor"].sentence == ("50.0 ms per photo, was 50.0: ratio 1.00, maximum 1.50")
    decision = judged(MASKED, better)
    assert rules["class_loss"].sentence in decision.reason
    assert heading(decision).startswith(
        "bbbbbbbbbbbb is not promoted, aaaaaaaaaaaa remains champion: 1 of 6 rules failed"
    )


def recorded(decision: GateDecision) -> dict[str, tuple[float | None, float | None, bool]]:
    """Value, limit and verdict of each rule."""
    return {rule.name: (rule.value, rule.limit, rule.passed) for rule in decision.rules}


def test_the_record_of_a_comparison_by_true_masks():
    challenger = changed(MASKED, iou={"background": 70.0, "cat": 90.0, "dog": 32.5}, seconds=0.1, bytes=5_000_000)
    decision = judged(MASKED, challenger)
    assert recorded(decision) == {
        "miou_gain": (pytest.approx(64.16666667 - 60), 0.0, True),
        "class_loss": (10.0, 5.0, False),
        "latency_factor": (2.0, 1.5, False),
        "size_factor": (0.5, 1.5, True),
        "vanished_classes": (0, 0.0, True),
        "lost_classes": (0, 0.0, True),
    }
    assert text(decision).splitlines() == [
        "bbbbbbbbbbbb is not promoted, aaaaaaaaaaaa remains champion: 2 of 6 rules failed: "
        "largest loss in IoU: background 70.00, was 80.00, dog 32.50, was 40.00; maximum loss 5.00 points; "
        "100.0 ms per photo, was 50.0: ratio 2.00, maximum 1.50",
        "  passed  miou_gain         mIoU 64.17, was 60.00: +4.17, minimum +0.00",
        "  failed  class_loss        largest loss in IoU: background 70.00, was 80.00, dog 32.50, was 40.00; "
        "maximum loss 5.00 points",
        "  failed  latency_factor    100.0 ms per photo, was 50.0: ratio 2.00, maximum 1.50",
        "  passed  size_factor       5.00 MB, was 10.00: ratio 0.50, maximum 1.50",
        "  passed  vanished_classes  no vanished classes",
        "  passed  lost_classes      no lost classes",
        "Measured on 9 held-out photos (digest fedcba987654).",
    ]


def test_the_record_of_a_comparison_without_masks():
    challenger = changed(OLD, consistency=0.9, coverage=0.15, classes=("background", "cat"), seconds=0.04)
    decision = judged(OLD, challenger, agreement=0.75)
    assert recorded(decision) == {
        "estimate_loss": (0, 5.0, True),
        "consistency_gain": (pytest.approx(0.1), -0.01, True),
        "coverage_change": (2.0, 2.0, True),
        "agreement": (0.75, 0.6, True),
        "latency_factor": (pytest.approx(0.8), 1.5, True),
        "size_factor": (1.0, 1.5, True),
        "vanished_classes": (0, 0.0, True),
        "lost_classes": (1, 0.0, False),
    }
    assert [rule.sentence for rule in decision.rules] == [
        "estimated mIoU 60.0, was 60.0; maximum loss 5.0 points",
        "tag consistency 0.900, was 0.800: +0.100, minimum -0.010",
        "0.150 of a photo is covered, was 0.300: ratio 2.00, maximum 2.00",
        "0.750 of the pixels have the same label, minimum 0.600",
        "40.0 ms per photo, was 50.0: ratio 0.80, maximum 1.50",
        "10.00 MB, was 10.00: ratio 1.00, maximum 1.50",
        "no vanished classes",
        "lost classes: dog (not allowed)",
    ]
    allowed = judged(OLD, challenger, settings=GateSettings(lost_classes=True))
    assert recorded(allowed)["lost_classes"] == (1, None, True)
    both = judged(OLD, changed(OLD, classes=("background", "sheep")))
    assert both.rules[-1].sentence == "lost classes: cat, dog (not allowed)"
    assert allowed.reason == "all 8 rules passed: estimated mIoU 60.0, was 60.0; maximum loss 5.0 points"


def test_a_value_at_its_limit_passes():
    settings = GateSettings(consistency_gain=0.25, agreement=0.75, miou_gain=10.0)
    champion = changed(OLD, version=OLD.version, consistency=0.5)
    assert judged(champion, changed(champion, consistency=0.75), agreement=0.75, settings=settings).promoted
    gained = {name: value + 10 for name, value in IOU.items()}
    decision = judged(MASKED, changed(MASKED, iou=gained), settings=settings)
    assert recorded(decision)["class_loss"] == (-10.0, 5.0, True)
    assert decision.rules[1].sentence == (
        "no class lost IoU, smallest gain: background 90.00, was 80.00; maximum loss 5.00 points"
    )
    level = judged(MASKED, changed(MASKED)).rules[1].sentence
    assert level.startswith("no class lost IoU, smallest gain: background 80.00, was 80.00;")
    small = changed(MASKED, iou={"background": 80.0, "cat": 60.0, "dog": 39.5})
    assert judged(MASKED, small).rules[1].sentence.startswith("largest loss in IoU: dog 39.50, was 40.00;")
    five = changed(MASKED, iou={"background": 75.0, "cat": 50.0, "dog": 50.0})
    assert judged(MASKED, five).rules[1].sentence.startswith("largest loss in IoU: cat 50.00, was 60.00; maximum")


def test_what_cannot_be_measured_passes_and_says_why():
    unknown = changed(OLD, coverage=None, graph=OLD.graph)
    champion = changed(MASKED, version=OLD.version, iou={"dog": 50.0})
    lost = changed(MASKED, classes=("background", "cat"), iou={"dog": 0.0})
    both = "no photo has only tags that both models have"
    reasons = {
        "coverage_change": (2.0, both, judged(OLD, unknown, agreement=None)),
        "agreement": (0.6, both, judged(OLD, unknown, agreement=None)),
        "latency_factor": (
            1.5,
            "both models compute the same, so their times differ by chance",
            judged(OLD, unknown, agreement=None),
        ),
        "min_coverage": (0.01, "no photo has only tags that the model has", judged(None, unknown, agreement=None)),
        "miou_gain": (
            0.0,
            "the ground-truth masks contain only lost classes",
            judged(champion, lost, settings=GateSettings(lost_classes=True)),
        ),
        "class_loss": (
            5.0,
            "the ground-truth masks contain no class that both models have",
            judged(champion, lost),
        ),
    }
    for name, (limit, reason, decision) in reasons.items():
        assert recorded(decision)[name] == (None, limit, True)
        assert {rule.name: rule.sentence for rule in decision.rules}[name] == f"not applicable: {reason}"
    painted = judged(None, changed(OLD, coverage=0.25), agreement=None)
    assert recorded(painted) == {"min_coverage": (0.25, 0.01, True)}


def test_a_new_class_lifts_the_mean_of_who_knows_it():
    champion = changed(MASKED, version=OLD.version, iou=IOU | {"sheep": 0})
    grown = changed(MASKED, classes=(*MASKED.classes, "sheep"), iou=IOU | {"dog": 36, "sheep": 30})
    decision = judged(champion, grown)
    assert decision.promoted
    assert decision.rules[0].value == pytest.approx((30 - 4) / 4)


def test_forgetting_is_by_permission_alone():
    shrunk = changed(MASKED, classes=("background", "cat"), iou={"background": 82.0, "cat": 60.0, "dog": 0.0})
    assert failed(judged(MASKED, shrunk)) == {"lost_classes", "miou_gain"}
    allowed = judged(MASKED, shrunk, settings=GateSettings(lost_classes=True))
    assert allowed.promoted
    assert allowed.rules[0].value == pytest.approx(1)
    assert "lost classes: dog (allowed)" in text(allowed)
    worse = changed(shrunk, iou={"background": 80.0, "cat": 59.0, "dog": 0.0})
    assert failed(judged(MASKED, worse, settings=GateSettings(lost_classes=True))) == {"miou_gain"}


def test_a_vanished_class_is_named_with_its_figures():
    settings = GateSettings(miou_gain=-100, class_loss=100)
    champion = changed(MASKED, version=OLD.version, iou={"background": 80.0, "cat": 4.0, "dog": 1.9})
    worse = changed(MASKED, iou={"background": 80.0, "cat": 0.39, "dog": 0.0}, painted={"cat": 0.9, "dog": 0.1})
    decision = judged(champion, worse, settings=settings)
    assert failed(decision) == {"vanished_classes"}
    assert "vanished classes: dog (painted on 10% of its photos, was 80%), cat (IoU 0.39, was 4.00)" in decision.reason
    allowed = settings.model_copy(update={"vanished_classes": True})
    assert judged(champion, worse, settings=allowed).promoted
    level = changed(MASKED, iou={"background": 80.0, "cat": 0.4, "dog": 0.0})
    assert judged(champion, level, settings=settings).promoted


def test_masks_of_nothing_that_both_know_ask_for_nothing():
    champion = changed(MASKED, version=OLD.version, iou={"dog": 50.0})
    shrunk = changed(MASKED, classes=("background", "cat"), iou={"dog": 0.0})
    decision = judged(champion, shrunk, settings=GateSettings(lost_classes=True))
    assert decision.promoted
    assert [rule.value for rule in decision.rules[:2]] == [None, None]


@pytest.mark.parametrize("coverage", [0.0, 0.009])
def test_a_champion_that_paints_nothing_is_no_measure(coverage: float):
    dead = changed(OLD, version=OLD.version, coverage=coverage, consistency=0.1)
    better = judged(dead, changed(OLD, coverage=0.3), agreement=0.1)
    assert better.promoted
    names = [rule.name for rule in better.rules]
    assert names == [
        "estimate_loss",
        "consistency_gain",
        "min_coverage",
        "latency_factor",
        "size_factor",
        "vanished_classes",
        "lost_classes",
    ]
    assert failed(judged(dead, changed(dead))) == {"min_coverage"}
    assert json.dumps(better.model_dump(mode="json"), allow_nan=False)


@pytest.mark.parametrize(("coverage", "promoted"), [(0.0, False), (0.0099, False), (0.01, True), (None, True)])
def test_a_first_champion_has_to_paint_something(coverage: float | None, promoted: bool):
    decision = judged(None, changed(OLD, coverage=coverage), agreement=None)
    assert (decision.promoted, decision.champion) == (promoted, None)
    assert [rule.name for rule in decision.rules] == ["min_coverage"]
    verdict = "is promoted: there is no champion yet"
    if not promoted:
        verdict = (
            f"is not promoted, there is still no champion: 1 of 1 rule failed: {coverage:.3f} of a photo is covered"
        )
    assert heading(decision).startswith(f"bbbbbbbbbbbb {verdict}")
    assert {champion for _, champion, _ in figure_rows(decision.comparison)} == {"-"}
    assert judged(None, changed(OLD, coverage=0.0), settings=GateSettings(min_coverage=0)).promoted


def test_times_of_equal_graphs_do_not_count():
    slow = {"seconds": 10 * OLD.seconds}
    assert judged(OLD, changed(OLD, graph=OLD.graph, **slow)).promoted
    assert failed(judged(OLD, changed(OLD, **slow))) == {"latency_factor"}


def test_a_decision_is_told_in_full():
    compared = Comparison(
        challenger=changed(MASKED, classes=("background", "cat", "dog", "a|b"), iou=IOU | {"a|b": 7.0}),
        champion=changed(MASKED, version=OLD.version, iou=IOU | {"a|b": 0.0}),
        agreement=0.9,
        photos=9,
        faults=(Fault("07", "07.jpg: not a readable photo"),),
    )
    decision = decide(SETTINGS, compared, HELD_OUT)
    assert GateDecision.model_validate_json(decision.model_dump_json()) == decision
    figures = {name: values for name, *values in figure_rows(compared)}
    assert figures["classes"] == ["cat, dog", "cat, dog, a|b"]
    assert (figures["mIoU"], figures["IoU a|b"], figures["MB"]) == (["45", "46.8"], ["0", "7"], ["10", "10"])
    assert (figures["tag consistency (F1)"], figures["coverage"]) == (["0.8", "0.8"], ["0.3", "0.3"])
    assert figures["ms per photo"] == ["50", "50"]
    mixed = Comparison(challenger=OLD, champion=MASKED, agreement=0.9, photos=9, faults=())
    assert {name: values for name, *values in figure_rows(mixed)}["IoU cat"] == ["60", "-"]
    assert "on 9 held-out photos, 1 skipped (digest fedcba987654)" in text(decision)
    assert all(rule.sentence in text(decision) for rule in decision.rules)


percent = st.floats(0, 100)
share = st.floats(0, 1)
measured = st.fixed_dictionaries(
    {
        "bytes": st.integers(1, 10**9),
        "seconds": st.floats(1e-4, 10),
        "consistency": share,
        "iou": st.fixed_dictionaries(dict.fromkeys(OLD.classes, percent)),
    }
)
limits = st.builds(
    GateSettings,
    miou_gain=st.floats(-100, 100),
    class_loss=percent,
    consistency_gain=st.floats(-1, 1),
    agreement=share,
    latency_factor=st.floats(1, 100),
    size_factor=st.floats(1, 100),
)


@given(limits, measured, measured, measured, st.tuples(share, share), st.booleans())
def test_better_never_fails_where_worse_passes(
    settings: GateSettings,
    before: dict[str, Any],
    one: dict[str, Any],
    other: dict[str, Any],
    agreed: tuple[float, float],
    masks: bool,
):
    better = {name: max(one[name], other[name]) for name in ("consistency",)}
    better |= {name: min(one[name], other[name]) for name in ("bytes", "seconds")}
    better["iou"] = {name: max(value, other["iou"][name]) for name, value in one["iou"].items()}
    if not masks:
        before, one, better = ({**figures, "iou": {}} for figures in (before, one, better))
    champion = changed(OLD, **before)
    worse_one = judged(champion, changed(OLD, **one), min(agreed), settings)
    better_one = judged(champion, changed(OLD, **better), max(agreed), settings)
    assert failed(better_one) <= failed(worse_one)
    for decision in (worse_one, better_one):
        json.dumps(decision.model_dump(mode="json"), allow_nan=False)
        assert decision.promoted is (not failed(decision))


@given(share, share, st.floats(1, 100))
def test_coverage_may_change_alike_both_ways(one: float, other: float, most: float):
    settings = GateSettings(coverage_change=most, min_coverage=0)
    forward = judged(changed(OLD, coverage=one), changed(OLD, coverage=other), settings=settings)
    backward = judged(changed(OLD, coverage=other), changed(OLD, coverage=one), settings=settings)
    assert failed(forward) == failed(backward)
    assert judged(changed(OLD, coverage=one), changed(OLD, coverage=one), settings=settings).promoted
