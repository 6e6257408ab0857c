import hashlib
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.collection.catalogue import Catalogue
from flows.collection.ingestion import Content, Outcome
from flows.collection.snapshots import Snapshot, snapshot
from flows.settings import DataSettings
from flows.workspace import Workspace
from tagmask.masks import MAX_CLASSES
from training.datasets import load


def sha(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def fill(workspace: Workspace, tags: Iterable[str], first: int = 0) -> None:
    """Record a photo for each text of tags, and put empty files in their place."""
    outcomes = []
    for number, text in enumerate(tags, start=first):
        name = sha(number)
        copy = workspace.photos / name[:2] / f"{name}.jpg"
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.touch()
        outcomes.append(Outcome(f"/{number}.jpg", tuple(text.split()), Content(name, ".jpg", 1, 1, 0, 0)))
    with Catalogue(workspace) as catalogue:
        catalogue.record(outcomes)


def ids(path: Path) -> list[str]:
    return [photo.id.rpartition("/")[2] for photo in load(path).photos] if path.stat().st_size else []


def files(workspace: Workspace) -> dict[str, tuple[int, int]]:
    """Each list's inode and time of change."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in workspace.data.glob("*.jsonl")}


def test_frequent_tags_are_learned_and_rare_ones_told(workspace: Workspace):
    fill(workspace, ["cat dog"] * 3 + ["cat"] * 2 + ["owl dog", "owl", ""])
    version = snapshot(workspace, DataSettings(min_photos=4, held_out=0))
    assert (version.classes, version.rare) == (("cat", "dog"), {"owl": 2})
    assert (version.photos, version.per_class, version.held_out_photos) == (6, {"cat": 5, "dog": 4}, 0)
    data = load(version.training)
    assert data.classes == version.classes
    assert data.photos_per_class() == version.per_class
    assert not data.faults
    assert all(photo.path.is_file() for photo in data.photos)
    assert ids(version.training) == sorted(sha(number) for number in range(6))
    assert (version.training.name, version.held_out.name) == (
        f"{version.digest[:16]}.jsonl",
        f"{version.digest[:16]}.held-out.jsonl",
    )


def test_photos_that_show_nothing_are_listed_without_tags(workspace: Workspace):
    fill(workspace, ["cat"] * 20 + ["background"] * 60 + ["owl"] + [""])
    version = snapshot(workspace, DataSettings(min_photos=2, held_out=0.5, max_held_out=100))
    assert (version.classes, version.rare) == (("cat",), {"owl": 1})
    data, held_out = load(version.training), load(version.held_out)
    assert version.empty == sum(not photo.tags for photo in data.photos) == version.photos - version.per_class["cat"]
    empty = sum(not photo.tags for photo in held_out.photos)
    assert 0 < empty <= len(held_out.photos) / 2
    assert data.faults == held_out.faults == ()


def test_photos_that_show_nothing_are_no_class(workspace: Workspace):
    fill(workspace, ["background"] * 30)
    version = snapshot(workspace, DataSettings(min_photos=2, held_out=0.5))
    assert (version.classes, version.rare, version.held_out_photos) == ((), {}, 0)


def test_nothing_yet_is_no_class(workspace: Workspace):
    version = snapshot(workspace, DataSettings())
    assert (version.classes, version.photos, version.per_class, version.rare) == ((), 0, {}, {})


def test_the_same_again_writes_nothing(workspace: Workspace):
    settings = DataSettings(min_photos=1)
    fill(workspace, ["cat"] * 30)
    version, before = snapshot(workspace, settings), files(workspace)
    assert (snapshot(workspace, settings), files(workspace)) == (version, before)
    fill(workspace, ["dog"], first=40)
    later = snapshot(workspace, settings)
    assert later.digest != version.digest
    assert len(files(workspace)) == 4
    assert before.items() <= files(workspace).items()


def test_a_damaged_list_is_written_anew(workspace: Workspace):
    fill(workspace, ["cat"] * 20)
    version = snapshot(workspace, DataSettings())
    text = version.training.read_text()
    version.training.write_text(text[:-9])
    assert snapshot(workspace, DataSettings()) == version
    assert version.training.read_text() == text


@settings(max_examples=30)
@given(counts=st.lists(st.integers(1, 40), min_size=1, max_size=4), most=st.integers(0, 12))
def test_held_out_photos_never_train_as_the_set_grows(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int], most: int
):
    workspace = Workspace(tmp_path_factory.mktemp("grows"))
    chosen = DataSettings(min_photos=1, held_out=0.3, max_held_out=most)
    trained: set[str] = set()
    measured: set[str] = set()
    total = 0
    for count in counts:
        fill(workspace, ["cat"] * count, first=total)
        total += count
        version = snapshot(workspace, chosen)
        training, held_out = ids(version.training), ids(version.held_out)
        apart = sorted(name for name in map(sha, range(total)) if int(name, 16) < 0.3 * 2**256)
        if version.classes:
            assert sorted(training + apart) == sorted(map(sha, range(total)))
            assert held_out == apart[:most]
        else:
            assert len(apart) == total  # all of its photos are held out: it is not learned yet
            assert (training, held_out, version.rare) == ([], [], {"cat": total})
        trained.update(training)
        measured.update(held_out)
    assert not trained & measured


def test_with_masks_to_measure_on_all_photos_train(workspace: Workspace, tmp_path: Path):
    fill(workspace, ["cat"] * 30)
    version = snapshot(workspace, DataSettings(min_photos=1, held_out=0.5, masks=tmp_path))
    assert (version.photos, version.held_out_photos) == (30, 0)


def test_of_too_many_tags_the_most_frequent_are_learned(workspace: Workspace):
    names = [f"tag{number:03}" for number in range(MAX_CLASSES + 2)]
    fill(workspace, [" ".join(names), " ".join(names[2:] + names[:1])])
    version = snapshot(workspace, DataSettings(min_photos=1, held_out=0))
    assert version.rare == {"tag001": 1, names[-1]: 2}
    assert len(version.classes) == MAX_CLASSES


def test_a_class_without_photos_is_gone(workspace: Workspace):
    settings = DataSettings(min_photos=1, held_out=0)
    fill(workspace, ["cat", "cat dog", "dog"])
    assert snapshot(workspace, settings).classes == ("cat", "dog")
    with Catalogue(workspace) as catalogue:
        catalogue.record([Outcome("/1.jpg", ("cat",)), Outcome("/2.jpg", ())])
    version = snapshot(workspace, settings)
    assert (version.classes, version.photos, version.rare) == (("cat",), 2, {})


def test_a_photo_removed_from_the_workspace_is_left_out(workspace: Workspace):
    settings = DataSettings(min_photos=1, held_out=0)
    fill(workspace, ["cat"] * 3)
    before: Snapshot = snapshot(workspace, settings)
    copy = workspace.photos / sha(1)[:2] / f"{sha(1)}.jpg"
    copy.unlink()
    version = snapshot(workspace, settings)
    assert (version.photos, version.missing, ids(version.training)) == (2, 1, sorted([sha(0), sha(2)]))
    copy.touch()
    assert snapshot(workspace, settings) == before
