"""Bundles, stores, inboxes and workspaces of earlier versions are read, or it is said what to do.

Each folder beside this file was written by the code of one commit: 2026-11-24 by a242b6c, 2026-11-29 by 1a74941. To add
one, check that commit out and run `tests/upgrades/write.py` with its code, in a folder such as /srv/tagmask, as some of
the files hold absolute paths; older commits have other names for what it imports. Lock files are left out.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from flows.collection.lists import diff, shards
from flows.collection.snapshots import snapshot
from flows.collection.sources import Source
from flows.collection.update import update
from flows.past_runs import past_runs
from flows.planning import resume_training
from flows.settings import DataSettings, FlowSettings
from flows.state import last_training, training_in_progress
from flows.workspace import Workspace
from tagmask.bundle import read_bundle
from tagmask.errors import RunError
from tagmask.inbox import Inbox
from tagmask.learners import Learners, find_learners
from tagmask.segmenter import Segmenter
from tagmask.store import Store
from tests.training.colour_bundle import write_colour_bundle
from tests.upgrades.write import FIRST, SECOND, photo
from training.datasets import load

HERE = Path(__file__).parent
VERSIONS = sorted(path.name for path in HERE.iterdir() if (path / "model.onnx").is_file())
SETTINGS = DataSettings(min_photos=1, held_out=0.0)
TAGS = [("cat",), ("dog", "wolf")]


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def folder(version: str, tmp_path: Path) -> Path:
    """A copy of what a version has written."""
    return shutil.copytree(HERE / version, tmp_path / version)


def test_a_bundle_is_read_and_paints_as_it_did(folder: Path) -> None:
    bundle = read_bundle(folder / "model.onnx")
    assert bundle.metadata.version == "0123456789ab"
    assert bundle.metadata.classes == ("background", "cat", "dog")
    with Segmenter.load(folder / "model.onnx", device="cpu") as segmenter:
        for label, name in enumerate(("cat", "dog"), start=1):
            mask = segmenter.segment(photo(name)).mask
            np.testing.assert_array_equal(mask, np.full((24, 32), label))


def test_a_store_is_read_and_goes_on(folder: Path) -> None:
    store = Store(folder / "store")
    assert store.versions() == (FIRST, SECOND)
    champion = store.champion()
    assert champion
    assert (champion.version, champion.before) == (SECOND, (FIRST,))
    events = [(each.event, each.version) for each in store.history()]
    assert events == [(event, each) for each in (FIRST, SECOND) for event in ("published", "decided", "promoted")]
    assert all(map(store.is_intact, store.versions()))
    assert find_learners(store, ["0" * 64]) == Learners((), (FIRST, SECOND))
    new = store.publish(write_colour_bundle(folder / "new.onnx", samples=["0" * 64]))
    assert store.promote(new.version).before == (SECOND, FIRST)
    assert store.rollback().version == SECOND


def test_an_inbox_is_read_and_goes_on(folder: Path) -> None:
    root = folder / "inbox"
    assert sorted(each.tags for each in load(root).photos) == TAGS
    inbox = Inbox(root, 0)
    again = inbox.add(photo("cat"), ["lynx"], "image/png", (24, 32))
    assert (again.tags, again.created) == (("cat", "lynx"), False)
    inbox.forget(again.id)
    assert [each.tags for each in load(root).photos] == [("dog", "wolf")]


def test_a_workspace_keeps_its_data_set(folder: Path) -> None:
    workspace = Workspace(folder / "workspace")
    (before,) = (path for path in workspace.data.glob("*.jsonl") if "." not in path.stem)
    (shard,) = shards(before, 64)
    assert sorted(each.tags for each in shard.photos) == TAGS
    changes = update(workspace, [Source(folder / "inbox")], 64)
    assert (changes.quarantined, changes.skipped) == ((), ())
    now = snapshot(workspace, SETTINGS)
    assert (now.photos, now.classes) == (2, ("cat", "dog", "wolf"))
    assert now.training == before
    assert diff(before, now.training).new_photos == 0


def test_runs_are_listed(folder: Path) -> None:
    (run,) = past_runs(Workspace(folder / "workspace")).runs
    assert (run.photos, run.classes, run.version) == (2, ("cat", "dog", "wolf"), "0123456789ab")
    assert run.settings["rounds"] == 3


STATES = {"2026-11-24": (last_training, training_in_progress), "2026-11-29": (training_in_progress,)}
"""By version: what of the state between flows is not read any more."""


@pytest.mark.parametrize("read", [last_training, training_in_progress])
def test_the_state_between_flows_is_read_or_named_with_the_remedy(folder: Path, version: str, read) -> None:
    workspace = Workspace(folder / "workspace")
    name = {last_training: "last.json", training_in_progress: "training.json"}[read]
    digest = json.loads((workspace.root / "last.json").read_text())["data_digest"]
    if read in STATES[version]:
        with pytest.raises(RunError, match=rf"{name}: .*; remove it, and the training starts over"):
            read(workspace)
    else:
        state = read(workspace)
        assert digest == (state.data_digest if read is last_training else state.request.data_digest)


def test_an_unfinished_training_of_another_version_is_dropped(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    workspace = Workspace(folder / "workspace")
    update(workspace, [Source(folder / "inbox")], 64)
    with caplog.at_level("WARNING"):
        assert resume_training(workspace, snapshot(workspace, SETTINGS), FlowSettings()) is None
    (message,) = (each.getMessage() for each in caplog.records)
    assert message.startswith(f"dropping the training in progress: {workspace.training}: damaged request")


def test_all_formats_are_written_as_those_that_are_kept(tmp_path: Path) -> None:
    """Otherwise a version has to be added to this folder."""
    from tests.upgrades.write import main

    main(tmp_path / "now")
    written = {path.relative_to(tmp_path / "now") for path in (tmp_path / "now").rglob("*") if path.is_file()}
    kept = {path.relative_to(HERE / VERSIONS[-1]) for path in (HERE / VERSIONS[-1]).rglob("*") if path.is_file()}
    assert {path for path in written if path.name != ".lock"} == kept
