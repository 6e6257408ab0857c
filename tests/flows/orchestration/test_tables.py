from pathlib import Path

from flows.collection.snapshots import Snapshot
from flows.collection.update import Update
from flows.orchestration.artifact import Artifact
from flows.orchestration.tables import (
    classes_artifact,
    collection_artifact,
    promotion_artifact,
    retraining_artifact,
    stages_artifact,
)
from flows.promotion.gate import GateDecision, Rule
from tagmask.errors import Fault
from training.evaluation.compare import Comparison, Figures
from training.run.ledger import Ledger, remark

QUALITY = {"consistency": 0.95, "coverage": 0.36, "agreement": 0.9}


def figures(version: str, **iou: float) -> Figures:
    return Figures(
        version=version, data_digest="1" * 64, classes=("background", *iou), bytes=10_000_000, seconds=0.05, iou=iou,
        precision="fp32", graph="e" * 64, consistency=0.8, coverage=None, painted={},
    )  # fmt: skip


def compared(champion: Figures | None, challenger: Figures) -> Comparison:
    return Comparison(champion=champion, challenger=challenger, agreement=None, photos=9, faults=())


def decision(champion: str | None, *, promoted: bool, rules: tuple[Rule, ...] = ()) -> GateDecision:
    comparison = compared(figures(champion) if champion else None, figures("new"))
    return GateDecision(
        promoted=promoted, champion=champion, challenger="new", reason="as it is", rules=rules, held_out="d",
        comparison=comparison,
    )  # fmt: skip


def rows_of(artifact: Artifact) -> list[list[str]]:
    """Cells of all tables of an artifact, headers too."""
    lines = [line for line in artifact.markdown.splitlines() if line.startswith("|") and ":--" not in line]
    return [[cell.strip().replace("\N{NO-BREAK SPACE}", " ") for cell in line.split("|")[1:-1]] for line in lines]


def test_a_stage_has_its_cost_and_quality(tmp_path: Path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.add(0, "classifier", photos=6100, seconds=780.6, losses=[0.32, 0.1, 0.05])
    ledger.add(1, "seeds", photos=1220, seconds=10.1, miou=44.21, precision=87.6, sure=55.9)
    ledger.add(1, "masks", photos=1220, seconds=186.9, miou=63.68)
    ledger.add(1, "decision", photos=1220, seconds=0.7, **QUALITY, kept=True, why="")
    ledger.add(2, "masks", photos=1220, seconds=100.0, miou=12.0)
    ledger.add(2, "decision", photos=1220, seconds=0.7, **QUALITY, kept=False, why="coverage fell")
    ledger.add(1, "export", file="model.onnx")
    first = {**QUALITY, "round": 1, "stage": "decision", "kept": True, "why": "vanished: cat"}
    assert remark(first).startswith("kept as the first: vanished: cat; consistency")
    chosen = {"round": 0, "stage": "saliency", "normalization": "isnet", "why": "known by its outputs"}
    assert remark(chosen) == "normalization isnet: known by its outputs"
    artifact = stages_artifact(ledger)
    _, classifier, seeds, _, kept, _, dropped, export, total = rows_of(artifact)
    assert classifier == ["0", "classifier", "6,100", "13 min 1 s", "128", "", "loss 0.320 to 0.050"]
    assert seeds[3:] == ["10 s", "8", "44.2", "precision 87.6, of 55.9% of the pixels"]
    assert kept[-1] == "kept; consistency 0.950, coverage 0.360, agreement 0.900"
    assert dropped[-1].startswith("dropped: coverage fell; ")
    assert export == ["1", "export", "", "", "", "", ""]
    assert total[3] == "17 min 59 s"
    assert artifact.summary == "2 rounds in 17 min 59 s; round 1 kept, mIoU of its masks 63.7"


def test_a_run_that_has_not_begun_has_a_table_too(tmp_path: Path):
    assert stages_artifact(Ledger(tmp_path / "ledger.jsonl")).summary == "0 rounds in 0.0 s"


def test_two_models_are_compared_class_by_class():
    artifact = classes_artifact(compared(figures("old", dog=71.34, sheep=0), figures("new", dog=69, sheep=72.3)))
    assert rows_of(artifact) == [
        ["class", "champion", "challenger", "change"],
        ["dog", "71.3", "69.0", "-2.3"],
        ["sheep", "0.0", "72.3", "+72.3"],
        ["mean", "35.7", "70.7", "+35.0"],
    ]
    assert artifact.summary == "mIoU: champion 35.7, challenger 70.7; 2 classes"


def test_one_model_is_compared_with_nothing():
    artifact = classes_artifact(compared(None, figures("new", dog=71.3)))
    assert rows_of(artifact) == [["class", "challenger"], ["dog", "71.3"], ["mean", "71.3"]]


def test_a_promotion_lists_failed_rules_first():
    rules = (
        Rule(name="size_factor", value=1.02, limit=1.5, passed=True, sentence="as large"),
        Rule(name="miou_gain", value=-1.4, limit=0, passed=False, sentence="mIoU fell from 61.2 to 59.8"),
    )
    artifact = promotion_artifact(decision("old", promoted=False, rules=rules))
    assert artifact.summary == "not promoted: new; old remains champion"
    assert rows_of(artifact)[:5] == [
        ["", "rule", "value", "limit", "explanation"],
        ["✗", r"miou\_gain", "-1.4", "0", "mIoU fell from 61.2 to 59.8"],
        ["✓", r"size\_factor", "1.02", "1.5", "as large"],
        ["figure", "champion", "challenger"],
        ["classes", "", ""],
    ]


def test_a_first_champion_replaces_nobody():
    assert promotion_artifact(decision(None, promoted=True)).summary == "promoted: new is champion"
    assert promotion_artifact(decision("old", promoted=True)).summary == "promoted: new is champion, replacing old"


def test_what_was_collected_names_the_first_faults_and_the_most_frequent_tags():
    faults = tuple(Fault(f"{number}.jpg", "empty file") for number in range(23))
    data = Path("list.jsonl")
    per_class, rare = {"cat": 900, "dog": 1220}, {"emu": 3}
    artifact = collection_artifact(
        Update(added=1300, retagged=2, untagged=0, quarantined=faults, skipped=(Fault("gone.jpg", "not there"),)),
        Snapshot("0" * 64, data, data, ("cat", "dog"), 2000, 122, per_class, 400, 0, rare, missing=1),
    )
    assert artifact.summary == "1,300 new photos, 23 quarantined; 2,000 photos to train on"
    cells = rows_of(artifact)
    assert cells[:5] == [["class", "photos"], ["dog", "1,220"], ["cat", "900"], ["tag", "photos"], ["emu", "3"]]
    assert cells[5:] == [
        ["file", "reason"], *([f"{number}.jpg", "empty file"] for number in range(20)),
        ["file", "reason"], ["gone.jpg", "not there"],
    ]  # fmt: skip
    assert "… and 3 more" in artifact.markdown
    assert "a held-out set of 122 photos" in artifact.markdown
    assert "1 photo left out" in artifact.markdown


def test_the_first_reason_to_retrain_is_in_the_summary():
    artifact = retraining_artifact(True, ["132 new photos", "new tag a_b"])
    assert artifact.summary == "retraining: 132 new photos"
    assert artifact.markdown == "- 132 new photos\n- new tag a\\_b\n"
    assert retraining_artifact(False, ["3 new photos of 100"]).summary == "not retraining: 3 new photos of 100"
