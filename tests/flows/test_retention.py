import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.promotion.publication import Promotion
from flows.retention import tidy
from flows.settings import RetentionSettings
from flows.state import FinishedTraining
from flows.workspace import Workspace
from tagmask.store import Store


class Past:
    """A workspace of `runs` runs, each with a stage of its own and one that all share, a list and networks."""

    def __init__(self, root: Path, runs: int) -> None:
        self.workspace, self.store = Workspace(root), Store(root / "store")
        for number in range(runs):
            self._make(number)

    def _make(self, number: int) -> None:
        work, run = self.workspace, self.workspace.run(f"run{number}").root
        for stage, folder in ((f"labels-{number}", "round-1/labels"), ("superpixels-0", "superpixels")):
            target, link = work.stages / stage / Path(folder).name, run / folder
            target.mkdir(parents=True, exist_ok=True)
            (target / "photo.png").write_bytes(b"pixels")
            for at, to in ((link, target), (run / "stages" / stage, work.stages / stage)):
                at.parent.mkdir(parents=True, exist_ok=True)
                at.symlink_to(os.path.relpath(to, at.parent))
        (run / "ledger.jsonl").write_text("")
        (work.weights(f"version{number}")).mkdir(parents=True)
        work.tensorboard(f"run{number}").mkdir(parents=True)
        work.data.mkdir(exist_ok=True)
        for path in (self.list(number), work.data / f"list{number}.held-out.jsonl"):
            path.write_text("")
            os.utime(path, (number, number))
        os.utime(run / "ledger.jsonl", (number, number))

    def list(self, number: int) -> Path:
        return self.workspace.data / f"list{number}.jsonl"

    def last(self, number: int) -> FinishedTraining:
        return FinishedTraining(
            photos=self.list(number),
            data_digest="d",
            key=f"run{number}",
            promotion=Promotion(version=f"version{number}", promoted=True, reason="better"),
            finished_at=datetime.now(UTC),
        )

    def left(self, folder: str) -> set[str]:
        return {path.name for path in (self.workspace.root / folder).iterdir()}


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6), st.data())
def test_what_is_kept(tmp_path_factory, runs, keep, lists, data):
    number = data.draw(st.integers(0, runs - 1))
    past = Past(tmp_path_factory.mktemp("past"), runs)
    tidy(past.workspace, past.store, RetentionSettings(runs=keep, data_sets=lists), past.last(number))
    kept = {*range(runs)[-keep:], number}
    assert past.left("runs") == past.left("tensorboard") == {f"run{each}" for each in kept}
    assert past.left("stages") == {"superpixels-0"} | {f"labels-{each}" for each in kept}
    for each in kept:
        assert (past.workspace.run(f"run{each}").root / "round-1" / "labels" / "photo.png").read_bytes() == b"pixels"
    listed = {*range(runs)[-lists:], number}
    assert past.left("data") == {f"list{each}{end}" for each in listed for end in (".jsonl", ".held-out.jsonl")}
    assert past.left("weights") == set()  # as no version is in the store


def test_networks_of_versions_in_the_store_stay(tmp_path):
    past = Past(tmp_path, 2)
    record = past.store.root / "bundles" / "version0" / "record.json"
    record.parent.mkdir(parents=True)
    record.write_text(
        json.dumps({"version": "version0", "sha256": "0" * 64, "bytes": 1, "published": "2030-01-01T00:00Z"})
    )
    tidy(past.workspace, past.store, RetentionSettings(), past.last(1))
    assert past.store.versions() == ("version0",)
    assert past.left("weights") == {"version0"}


def test_one_that_was_killed_is_finished_by_the_next(tmp_path, monkeypatch):
    past = Past(tmp_path, 4)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            tidy(past.workspace, past.store, RetentionSettings(runs=1), past.last(3))
    tidy(past.workspace, past.store, RetentionSettings(runs=1), past.last(3))
    assert past.left("runs") == {"run3"}
    assert past.left("stages") == {"superpixels-0", "labels-3"}
    assert past.left("weights") == set()
