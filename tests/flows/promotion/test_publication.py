"""What happens between a finished training and the champion."""

from pathlib import Path

import pytest

from flows.learning.flow import TrainingResult, finished
from flows.promotion import comparison, publication
from flows.promotion.comparison import compare_with_champion
from flows.promotion.publication import keep_weights, promote
from flows.settings import FlowSettings
from flows.state import last_training
from flows.workspace import Workspace
from tagmask.bundle import read_metadata, write_bundle, write_decision
from tagmask.errors import BundleError
from tagmask.store import Store

pytestmark = pytest.mark.filterwarnings("ignore:Logger 'prefect.task_runs' attempted")  # as these tests run no flow


class Case:
    """A finished training in a workspace, with a store that does not have it yet."""

    def __init__(self, workspace: Workspace, store: Path, settings: FlowSettings) -> None:
        last = last_training(workspace)
        assert last is not None
        result = finished(workspace.run(last.key))
        assert result is not None
        self.workspace, self.store, self.settings = workspace, Store(store), settings
        self.result: TrainingResult = result
        self.photos, self.held_out = last.photos, last.photos.with_suffix(".held-out.jsonl")

    def promote(self) -> publication.Promotion:
        decision = compare_with_champion(self.store, self.result, self.photos, self.held_out, self.settings)
        return promote(self.workspace, self.store, self.result, decision)

    def other(self, name: str = "f" * 64) -> Path:
        """A bundle of the same network under another version."""
        import onnx

        path = self.result.model.with_name("other.onnx")
        metadata = read_metadata(self.result.model).model_copy(update={"weights_digest": name})
        write_bundle(path, onnx.load(self.result.model), metadata)
        return path

    def champion(self) -> str | None:
        champion = self.store.champion()
        return champion.version if champion else None

    def decided(self) -> list[str]:
        return [each.version for each in self.store.history() if each.event == "decided"]


@pytest.fixture
def case(workspace: Workspace, tmp_path: Path, tiny: FlowSettings) -> Case:
    return Case(workspace, tmp_path / "store", tiny)


class KilledError(BaseException):
    """Where a process is killed."""


@pytest.mark.parametrize("where", ["publish", "record_decision", "promote"])
def test_killed_in_between_it_goes_on(case, monkeypatch, where):
    """Before or after each writing of the store."""
    done = getattr(Store, where)

    def before(*arguments: object, **options: object) -> None:
        raise KilledError

    def after(*arguments: object, **options: object) -> None:
        done(*arguments, **options)
        raise KilledError

    for killed in (before, after):
        with monkeypatch.context() as patch:
            patch.setattr(Store, where, killed)
            with pytest.raises(KilledError):
                case.promote()
    measured = []
    measure = comparison.measure_models
    monkeypatch.setattr(comparison, "measure_models", lambda *models: measured.append(models) or measure(*models))
    assert case.promote().promoted
    assert case.champion() == case.result.version
    assert read_metadata(case.store.path(case.result.version)).decision["promoted"]
    assert not measured  # what is published is compared already
    assert case.promote().reason == "it already is the champion"
    assert list(case.workspace.root.rglob("*.part")) == []


def test_another_champion_was_made_during_the_training(case):
    case.store.publish(case.other())
    case.store.promote("f" * 12)
    assert case.promote().promoted
    champion = case.store.champion()
    assert champion is not None
    assert (champion.version, champion.before) == (case.result.version, ("f" * 12,))
    assert read_metadata(case.store.path(champion.version)).decision["champion"] == "f" * 12


@pytest.mark.parametrize("before", ["e" * 64, None])
def test_another_champion_was_made_during_the_comparison(case, monkeypatch, before):
    if before:
        case.store.publish(case.other(before))
        case.store.promote(before[:12])
    case.store.publish(case.other())
    report = publication._report

    def meanwhile(*arguments: object) -> None:
        report(*arguments)
        case.store.promote("f" * 12)

    with monkeypatch.context() as patch:
        patch.setattr(publication, "_report", meanwhile)
        with pytest.raises(
            BundleError, match=f"the champion is f{{12}}, not {'e{12}' if before else 'unset'} as expected"
        ):
            case.promote()
    assert case.champion() == "f" * 12
    assert case.promote().promoted
    assert case.champion() == case.result.version


@pytest.mark.parametrize("decision", [{}, {"schema": 2, "winner": "challenger"}])
def test_a_published_decision_that_cannot_be_read_is_made_anew(case, decision):
    write_decision(case.result.model, decision)
    case.store.publish(case.result.model)
    assert case.promote().promoted
    assert case.champion() == case.result.version
    assert case.decided() == [case.result.version]


def test_other_rules_apply_to_what_was_measured_before(case):
    case.store.publish(case.other())
    case.store.promote("f" * 12)
    gate = case.settings.gate
    case.settings = case.settings.model_copy(update={"gate": gate.model_copy(update={"consistency_gain": 1.0})})
    refused = case.promote()
    assert not refused.promoted
    assert "minimum +1.000" in refused.reason
    case.settings = case.settings.model_copy(update={"gate": gate})
    assert case.promote().promoted


def test_a_damaged_champion_is_named_and_may_be_rolled_back(case):
    for name in ("e" * 64, "f" * 64):
        case.store.publish(case.other(name))
        case.store.promote(name[:12])
    damaged = case.store.path("f" * 12)
    damaged.write_bytes(damaged.read_bytes()[:-1000] + bytes(1000))
    with pytest.raises(BundleError, match=r"f{12}/model\.onnx: SHA-256 is .* restore the file, or add it again"):
        case.promote()
    case.store.rollback()
    assert case.promote().promoted


def test_networks_are_kept_whole(case, monkeypatch):
    folder = case.workspace.weights(case.result.version)
    before = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    (folder / "run.json").unlink()
    (folder / "round-1" / "pixelnet" / "weights.pt").unlink()
    keep_weights(case.workspace, case.result)
    assert sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file()) == before
