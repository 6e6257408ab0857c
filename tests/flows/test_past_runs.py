import json
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.past_runs import past_runs
from flows.state import last_training
from flows.workspace import Workspace
from tagmask.errors import RunError
from tests.training.colour_bundle import write_colour_bundle
from training.run.ledger import Ledger

Command = Callable[..., tuple[int, str, str]]


def run(workspace: Workspace, key: str, **changed: object) -> Path:
    """A run of two rounds, of which the first was kept, without a bundle."""
    layout = workspace.run(key)
    layout.root.mkdir(parents=True)
    description = {
        "data_digest": "d" * 64,
        "photos": 40,
        "classes": ["cat", "dog"],
        "settings": {"seed": 7, "crf": {"steps": 5}, "rounds": 2},
        "start": None,
    }
    layout.description.write_text(json.dumps(description | changed))
    ledger = Ledger(layout.ledger)
    ledger.add(0, "superpixels", photos=40, seconds=3.0)
    ledger.add(1, "decision", photos=40, seconds=2.0, kept=True, why="", estimate={"miou": 61.5})
    ledger.add(2, "decision", photos=40, seconds=1.5, kept=False, why="consistency fell", estimate={"miou": 50.0})
    return layout.root


def test_figures_and_fate_of_each_run(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    run(workspace, "a")
    decision = {"promoted": False, "comparison": {"challenger": {"miou": 55.25}}}
    write_colour_bundle(run(workspace, "b", start="e" * 64) / "model.onnx", decision=decision)
    write_colour_bundle(run(workspace, "c") / "model.onnx", decision={"promoted": True}, weights_digest="c" * 64)
    write_colour_bundle(run(workspace, "d") / "model.onnx", weights_digest="d" * 64)
    listed = {each.key: each for each in past_runs(workspace).runs}
    assert list(listed) == ["a", "b", "c", "d"]
    assert [each.result for each in listed.values()] == ["unfinished", "kept", "promoted", "undecided"]
    assert [each.from_champion for each in listed.values()] == [False, True, False, False]
    assert [each.version for each in listed.values()] == [None, "0123456789ab", "c" * 12, "d" * 12]
    assert (listed["b"].miou, listed["c"].miou) == (55.25, None)
    first = listed["a"]
    assert (first.rounds, first.kept, first.seconds, first.estimated_miou) == (2, 1, 6.5, 61.5)
    assert (first.photos, first.classes) == (40, ("cat", "dog"))


def test_settings_that_differ(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    run(workspace, "a")
    run(workspace, "b", settings={"seed": 7, "crf": {"steps": 9}, "rounds": 2})
    run(workspace, "c", settings={"seed": 7, "crf": {"steps": 5, "new": [1]}, "rounds": 2})
    assert past_runs(workspace).differences() == {"crf.new": [None, None, [1]], "crf.steps": [5, 9, 5]}


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    run(workspace, "good")
    (run(workspace, "bad") / "run.json").write_text("{")
    (run(workspace, "lines") / "ledger.jsonl").write_text("no JSON\n")
    workspace.run("empty").root.mkdir()
    past = past_runs(workspace)
    assert [each.key for each in past.runs] == ["good"]
    assert [each.where for each in past.faults] == ["bad", "empty", "lines"]
    with pytest.raises(RunError, match="no such folder"):
        past_runs(Workspace(tmp_path / "elsewhere"))


def test_the_command_prints_tables_and_json(trained: Workspace, command: Command) -> None:
    last = last_training(trained)
    assert last
    line = ("flow", "runs", "--workspace", trained.root)
    (only,) = json.loads(command(*line, "--json")[1])
    assert (only["key"], only["version"], only["champion"]) == (last.key, last.promotion.version, True)
    assert (only["result"], only["settings"]["rounds"]) == ("promoted", 1)
    shown = command(*line)[1].splitlines()
    assert shown[0].split() == [last.key]
    assert [line.split() for line in shown if "version" in line] == [["version", last.promotion.version, "*"]]
    assert shown[-1].split() == ["result", "promoted"]  # one run does not differ


def test_the_table_has_a_column_for_each_run(tmp_path: Path, command: Command) -> None:
    workspace = Workspace(tmp_path)
    run(workspace, "first")
    run(workspace, "second", settings={"seed": 8, "crf": {"steps": 5}, "rounds": 2})
    rows = command("flow", "runs", "--workspace", tmp_path)[1].splitlines()
    assert rows[0].split() == ["first", "second"]
    assert [rows[-2].split(), rows[-1].split()] == [["result", "unfinished", "unfinished"], ["seed", "7", "8"]]
