import errno
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from flows.collection import ingestion
from flows.collection.ingestion import Arrival, Outcome
from flows.collection.snapshots import Snapshot, snapshot
from flows.collection.sources import Source
from flows.collection.update import Ingest, Update, update
from flows.forgetting import request_from_sources
from flows.settings import DataSettings
from flows.workspace import Workspace
from tagmask.corrections import Correction
from tagmask.errors import DataError, RunError
from tagmask.inbox import Annotation, Inbox
from tagmask.masks import write_mask
from tagmask.objects import Objects
from tagmask.photos import decode_file
from training.datasets import load
from training.datasets.parallel import processes

Draw = Callable[[int], bytes]
Table = Callable[[Mapping[str, str]], Path]

ROOT = Path(__file__).parents[3]

ALL = DataSettings(min_photos=1, held_out=0)


def take(workspace: Workspace, *roots: Path) -> Update:
    return update(workspace, [Source(root) for root in roots], shard_size=2)


def learned(workspace: Workspace) -> dict[str, int]:
    return dict(snapshot(workspace, ALL).per_class)


def content(root: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes and time of change of every file."""
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_what_is_new_is_taken_once(workspace: Workspace, table: Table):
    path = table({"1.jpg": "cat", "2.jpg": "cat dog", "3.jpg": "[owl"})
    done = take(workspace, path)
    assert (done.added, done.untagged, len(done.skipped), done.quarantined) == (2, 1, 1, ())
    assert learned(workspace) == {"cat": 2, "dog": 1}
    for copy in workspace.photos.rglob("*.jpg"):
        assert copy.parent.name + copy.stem[2:] == hashlib.sha256(copy.read_bytes()).hexdigest()
    again = take(workspace, path)
    assert (again.added, again.retagged) == (0, 0)
    done = take(workspace, table({"1.jpg": "cat", "2.jpg": "cat dog", "3.jpg": "dog", "4.jpg": "dog"}))
    assert (done.added, learned(workspace)) == (2, {"cat": 2, "dog": 3})


def test_samples_of_the_service_get_their_later_tags(workspace: Workspace, tmp_path: Path, photo: Draw):
    inbox = Inbox(tmp_path / "inbox", min_free_bytes=0)
    assert take(workspace, tmp_path / "inbox").added == 0
    inbox.add(photo(1), ["cat"], "image/jpeg", (8, 12))
    assert take(workspace, tmp_path / "inbox").added == 1
    inbox.add(photo(1), ["dog"], "image/jpeg", (8, 12))
    done = take(workspace, tmp_path / "inbox")
    assert (done.added, done.retagged, learned(workspace)) == (0, 1, {"cat": 1, "dog": 1})


def test_samples_get_their_later_corrections(workspace: Workspace, tmp_path: Path, photo: Draw):
    inbox = Inbox(tmp_path / "inbox", min_free_bytes=0)
    cat, none = (Correction.of(np.full((8, 12), value, np.uint8), ["background", "cat"]) for value in (1, 0))
    nothing = Correction((8, 12), ())
    versions = []
    for sent, retagged, expected in (
        (None, 0, None), (cat, 1, cat), (none, 1, none), (None, 0, none), (nothing, 1, None),
    ):  # fmt: skip
        inbox.add(photo(1), ["cat"], "image/jpeg", (8, 12), correction=sent)
        assert take(workspace, tmp_path / "inbox").retagged == retagged
        versions.append(snapshot(workspace, ALL))
        (learned,) = load(versions[-1].training).photos
        assert learned.correction == expected
    assert [version.corrected for version in versions] == [0, 1, 1, 1, 0]
    assert versions[0] == versions[-1]
    assert len({version.digest for version in versions}) == 3


@pytest.mark.parametrize("source", ["table", "inbox"])
def test_photos_have_the_hints_of_their_source(
    workspace: Workspace, tmp_path: Path, table: Table, photo: Draw, source: str
):
    if source == "table":
        root = table({"1.jpg": "cat", "2.jpg": "dog", "3.jpg": "cat"})
    else:
        inbox, root = Inbox(tmp_path / "inbox", min_free_bytes=0), tmp_path / "inbox"
        for number, tag in enumerate(("cat", "dog", "cat")):
            inbox.add(photo(number), [tag], "image/jpeg", (8, 12))
    cats = [each for each in load(root).photos if each.tags == ("cat",)]
    mask, made = np.eye(8, 12, dtype=np.uint8), tmp_path / "made"
    for each in cats:
        write_mask(made / f"{each.path.stem}.png", mask)
    (made / "classes.txt").write_text("background\ncat\n")
    digests = set()
    for hints, retagged, hinted in ((None, 0, 0), (made, 2, 2), (made, 0, 2), (None, 2, 0)):
        assert update(workspace, [Source(root, hints=hints)], shard_size=2).retagged == retagged
        version = snapshot(workspace, ALL)
        data = load(version.training)
        assert data.hinted == hinted
        assert {each.hint for each in data.photos} - {None} == (
            {Correction.of(mask, ("background", "cat"))} if hints else set()
        )
        digests.add(version.digest)
    assert len(digests) == 2
    with pytest.raises(DataError, match=r"nowhere: no hints"):
        update(workspace, [Source(root, hints=tmp_path / "nowhere")], shard_size=2)


def test_samples_follow_their_annotations(workspace: Workspace, tmp_path: Path, photo: Draw):
    inbox = Inbox(tmp_path / "inbox", min_free_bytes=0)
    for number in (1, 2):
        inbox.annotate(Annotation(number, task=number), photo(number), ["cat", "dog"], "image/jpeg", (8, 12))
    take(workspace, tmp_path / "inbox")
    inbox.annotate(Annotation(1, task=1), photo(1), ["cat"], "image/jpeg", (8, 12))
    take(workspace, tmp_path / "inbox")
    assert learned(workspace) == {"cat": 2, "dog": 1}
    inbox.delete(None, {2})
    done = take(workspace, tmp_path / "inbox")
    assert (done.retagged, done.untagged, learned(workspace)) == (1, 1, {"cat": 1})
    inbox.delete(None, tasks={1})
    take(workspace, tmp_path / "inbox")
    assert learned(workspace) == {}


def test_an_inbox_in_object_storage_is_followed(
    workspace: Workspace, memory: str, photo: Draw, monkeypatch: pytest.MonkeyPatch
):
    def taken() -> Update:
        return update(workspace, [Source(memory)], shard_size=2)

    inbox, drawn = Inbox(memory, 0), Correction.of(np.ones((8, 12), np.uint8), ["background", "cat"])
    assert taken().added == 0
    for number, name in enumerate("abc"):
        inbox.add(photo(number), [name], "image/jpeg", (8, 12))
    sample = inbox.add(photo(0), ["cat"], "image/jpeg", (8, 12), correction=drawn)
    assert (taken().added, learned(workspace)) == (3, {"a": 1, "b": 1, "c": 1, "cat": 1})
    with monkeypatch.context() as patch:  # nothing is transferred
        patch.setattr(Objects, "read", None)
        patch.setattr(Objects, "get", None)
        again = taken()
    assert (again.added, again.retagged) == (0, 0)
    assert [fault.where for fault in again.skipped] == [f"{memory}/{sample.id[:2]}/{sample.id}.correction.png"]
    inbox.add(photo(1), ["cat"], "image/jpeg", (8, 12))
    assert (taken().retagged, learned(workspace)["cat"]) == (1, 2)
    inbox.forget(sample.id)
    request_from_sources(workspace, [Source(memory)])
    assert list(workspace.to_forget) == [sample.id]
    assert taken().skipped == ()  # it is not listed any more


def test_sources_are_left_as_they_are(workspace: Workspace, tmp_path: Path, table: Table):
    root = table({"1.jpg": "cat", "2.jpg": "dog"}).parent
    (root / "2.jpg").write_bytes(b"no photo")
    before = content(root)
    for path in (*root.iterdir(), root):
        path.chmod(0o555 if path.is_dir() else 0o444)
    take(workspace, root)
    take(workspace, root)
    root.chmod(0o755)
    assert content(root) == before


def test_a_corrected_list_moves_a_photo_to_another_class(workspace: Workspace, table: Table):
    take(workspace, table({"1.jpg": "cat", "2.jpg": "cow"}))
    done = take(workspace, table({"1.jpg": "cat", "2.jpg": "cat"}))
    assert (done.added, done.retagged, learned(workspace)) == (0, 1, {"cat": 2})


def test_a_class_can_lose_all_its_photos_and_all_tags_go(workspace: Workspace, table: Table):
    path = table({"1.jpg": "cat", "2.jpg": "cow"})
    take(workspace, path)
    take(workspace, table({"1.jpg": "cat", "2.jpg": ""}))
    assert learned(workspace) == {"cat": 1}
    update(workspace, [Source(path, classes=("owl",))], shard_size=9)
    assert learned(workspace) == {}


def test_a_photo_whose_source_is_gone_is_kept(workspace: Workspace, table: Table):
    path = table({"1.jpg": "cat", "2.jpg": "cow"})
    take(workspace, path)
    (path.parent / "2.jpg").unlink()
    done = take(workspace, path)
    assert "photo '2.jpg' not found" in done.skipped[0].why
    shutil.rmtree(path.parent)
    assert learned(workspace) == {"cat": 1, "cow": 1}


def test_a_photo_moved_to_another_folder_is_of_that_class_alone(workspace: Workspace, tmp_path: Path, photo: Draw):
    inbox = tmp_path / "inbox"
    for tag, number in (("cat", 1), ("cat", 2), ("dog", 3)):
        (inbox / tag).mkdir(parents=True, exist_ok=True)
        (inbox / tag / f"{number}.jpg").write_bytes(photo(number))
    take(workspace, inbox)
    (inbox / "cat/2.jpg").rename(inbox / "dog/2.jpg")
    assert take(workspace, inbox).added == 1
    assert learned(workspace) == {"cat": 1, "dog": 2}
    shutil.copy(inbox / "dog/2.jpg", inbox / "cat/again.jpg")
    take(workspace, inbox)
    assert learned(workspace) == {"cat": 2, "dog": 2}


def test_an_edited_photo_takes_the_place_of_the_old_one(workspace: Workspace, table: Table, photo: Draw):
    path = table({"1.jpg": "cat"})
    take(workspace, path)
    before = snapshot(workspace, ALL)
    (path.parent / "1.jpg").write_bytes(photo(7))
    assert take(workspace, path).added == 1
    after = snapshot(workspace, ALL)
    assert (after.photos, after.digest != before.digest) == (1, True)
    assert (workspace.data / json.loads(before.training.read_text())["image"]).is_file()  # of the former version


def test_a_copy_that_is_gone_comes_back_from_its_source(workspace: Workspace, table: Table):
    path = table({"1.jpg": "cat", "2.jpg": "cat"})
    take(workspace, path)
    before = snapshot(workspace, ALL)
    (workspace.data / json.loads(before.training.read_text().splitlines()[0])["image"]).unlink()
    assert snapshot(workspace, ALL).photos == 1
    assert take(workspace, path).added == 1
    assert snapshot(workspace, ALL) == before


def test_what_is_no_photo_is_quarantined_with_the_reason(
    workspace: Workspace, table: Table, photo: Draw, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("flows.collection.ingestion.decode_file", partial(decode_file, max_pixels=100))
    path = table({"1.jpg": "cat", "2.jpg": "cat", "3.jpg": "cat", "4.jpg": "cat"})
    bad = {"1.jpg": b"", "2.jpg": photo(2)[:-300], "3.jpg": b"no photo"}
    for name, data in bad.items():
        (path.parent / name).write_bytes(data)
    Image.new("RGB", (11, 10)).save(path.parent / "4.jpg")
    done = take(workspace, path)
    faults = {Path(fault.where).name: fault.why for fault in done.quarantined}
    assert "is empty" in faults["1.jpg"]
    assert "cut off" in faults["2.jpg"]
    assert "not an image of a known type" in faults["3.jpg"]
    assert "11x10 pixels" in faults["4.jpg"]
    assert learned(workspace) == {}
    for name, fault in faults.items():
        data = (path.parent / name).read_bytes()
        copy = workspace.quarantine / f"{hashlib.sha256(data).hexdigest()}.jpg"
        assert copy.read_bytes() == data
        record = json.loads(copy.with_suffix(".json").read_text())
        assert (record["source"], record["fault"]) == (str(path.parent / name), fault)
        assert record.keys() == {"source", "fault", "time"}


def test_a_quarantined_photo_is_looked_at_again_when_it_changes(workspace: Workspace, table: Table, photo: Draw):
    path = table({"1.jpg": "cat"})
    (path.parent / "1.jpg").write_bytes(photo(1)[:100])
    assert len(take(workspace, path).quarantined) == 1
    again = take(workspace, path)
    assert (again.quarantined, again.added) == ((), 0)
    (path.parent / "1.jpg").write_bytes(photo(1))
    assert (take(workspace, path).added, learned(workspace)) == (1, {"cat": 1})


def test_the_copy_is_called_by_what_it_is(workspace: Workspace, table: Table, photo: Draw):
    path = table({"1.png": "cat", "2.jpg": "dog"})
    (path.parent / "1.png").write_bytes(photo(1))
    (path.parent / "2.jpg").write_bytes(photo(1))
    take(workspace, path)
    (copy,) = (path for path in workspace.photos.rglob("*") if path.is_file())
    assert copy.suffix == ".jpg"
    assert learned(workspace) == {"cat": 1, "dog": 1}


def test_a_photo_that_vanishes_before_it_is_read_is_taken_later(workspace: Workspace, table: Table, photo: Draw):
    path = table({"1.jpg": "cat", "2.jpg": "dog"})

    def after_a_while(ingest: Ingest, shards: Iterable[tuple[Arrival, ...]]) -> Iterator[tuple[Outcome, ...]]:
        for shard in shards:
            (path.parent / "1.jpg").unlink()
            yield ingest(shard)

    done = update(workspace, [Source(path)], shard_size=9, map_shards=after_a_while)
    assert (done.added, [fault.where for fault in done.skipped]) == (1, [str(path.parent / "1.jpg")])
    assert "disappeared" in done.skipped[0].why
    records = [json.loads(line) for line in (workspace.quarantine / "skipped.jsonl").read_text().splitlines()]
    assert [each["where"] for each in records] == [str(path.parent / "1.jpg")]
    (path.parent / "1.jpg").write_bytes(photo(1))
    assert (take(workspace, path).added, learned(workspace)) == (1, {"cat": 1, "dog": 1})


def test_a_photo_that_changes_while_it_is_read_is_taken_later(
    workspace: Workspace, table: Table, photo: Draw, monkeypatch: pytest.MonkeyPatch
):
    path = table({"1.jpg": "cat"})
    read = ingestion.decode_file

    def edited(path: Path) -> object:
        pixels = read(path)
        path.write_bytes(photo(5))
        return pixels

    with monkeypatch.context() as patch:
        patch.setattr(ingestion, "decode_file", edited)
        done = take(workspace, path)
    assert (done.added, len(done.skipped)) == (0, 1)
    assert "changed" in done.skipped[0].why
    assert not [path for path in workspace.photos.rglob("*") if path.is_file()]
    assert take(workspace, path).added == 1


def test_huge_files_are_not_read(workspace: Workspace, table: Table):
    path = table({"1.jpg": "cat"})
    os.truncate(path.parent / "1.jpg", ingestion.MAX_BYTES + 1)
    assert "has 1,000,000,001 bytes, more than 1,000,000,000" in take(workspace, path).skipped[0].why
    assert [path.name for path in workspace.quarantine.iterdir()] == ["skipped.jsonl"]


def test_a_pipe_is_skipped_with_the_reason(workspace: Workspace, table: Table):
    path = table({"1.jpg": "cat", "2.jpg": "dog"})
    (path.parent / "1.jpg").unlink()
    os.mkfifo(path.parent / "1.jpg")
    (outcome,) = ingestion.ingest([ingestion.Arrival(str(path.parent / "1.jpg"), ("cat",))], workspace)
    assert (outcome.content, outcome.fault) == (None, "it is not a regular file; replace or remove it")


def test_photos_are_looked_at_in_other_processes(workspace: Workspace, table: Table):
    path = table({f"{number}.jpg": "cat" for number in range(5)})
    with processes(1) as pool:
        assert update(workspace, [Source(path)], shard_size=2, map_shards=pool.map).added == 5
    assert learned(workspace) == {"cat": 5}


def test_the_processes_load_neither_torch_nor_prefect():
    loads = "import sys, flows.collection.ingestion; print({'torch', 'prefect'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", loads], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "set()"


def test_a_full_disk_names_the_folder_and_leaves_no_half_file(
    workspace: Workspace, table: Table, monkeypatch: pytest.MonkeyPatch
):
    path = table({"1.jpg": "cat", "2.jpg": "dog"})

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("tagmask.files.os.fsync", full)
        with pytest.raises(RunError, match=r"workspace/data/photos/..: cannot be written \(No space left.*free disk"):
            take(workspace, path)
    assert not [path for path in workspace.photos.rglob("*") if path.is_file()]
    assert take(workspace, path).added == 2


def test_a_small_disk_that_fills_up_goes_on_with_room(tmp_path: Path, table: Table):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk of its own needs the right to mount")
    try:
        workspace = Workspace(disk / "workspace")
        names = [f"{number}.jpg" for number in range(60)]
        path = table(dict.fromkeys(names, "cat"))
        with pytest.raises(RunError, match="free disk space"):
            take(workspace, path)
        assert not list(workspace.root.rglob("*.part"))
        subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
        assert 0 < take(workspace, path).added <= len(names)
        assert learned(workspace) == {"cat": len(names)}
    finally:
        subprocess.run(["umount", str(disk)], check=True)


PHOTOS = range(9)
BAD = 8
"""One of them is no photo."""


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(PHOTOS), cuts=st.sets(st.sampled_from(PHOTOS)), shard=st.integers(1, 4))
def test_order_and_parts_do_not_matter(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], cuts: set[int], shard: int
):
    root = tmp_path_factory.mktemp("parts")
    for number in PHOTOS:
        Image.new("RGB", (8, 8), (number // 2 * 60, 0, 0)).save(root / f"{number}.jpg")  # two and two are the same
    (root / f"{BAD}.jpg").write_bytes(b"no photo")

    def collected(name: str, *parts: list[int]) -> Snapshot:
        workspace = Workspace(root / name)
        for part in parts:
            rows = "".join(f"{each}.jpg,{'cat' if each % 3 else 'dog'}\n" for each in part)
            (root / "tags.csv").write_text(f"image,tags\n{rows}")
            update(workspace, [Source(root / "tags.csv")], shard)
        return snapshot(workspace, ALL)

    edges = [0, *sorted(cuts), len(order)]
    version = collected("parts", *(order[start:end] for start, end in pairwise(edges)))
    assert version.per_class == {"cat": 4, "dog": 3}
    assert version.digest == collected("at once", list(PHOTOS)).digest


CHILD = """
import os, random, signal, sys, time
from pathlib import Path
from flows.collection.update import update
from flows.collection.snapshots import snapshot
from flows.collection.sources import Source
from flows.collection.update import Ingest, Update, update
from flows.forgetting import request_from_sources
from flows.settings import DataSettings
from flows.workspace import Workspace

def work(root):
    workspace = Workspace(root)
    update(workspace, [Source(Path(sys.argv[1]))], 3)
    snapshot(workspace, DataSettings(min_photos=1))

work(Path(sys.argv[2]) / "first")
start = time.monotonic()
work(Path(sys.argv[2]) / "undisturbed")
longest = time.monotonic() - start
draw = random.Random(0)
kills = 0
for number in range(10):
    killed, attempts = True, 0
    while killed:
        attempts += 1
        child = os.fork()
        if not child:
            work(Path(sys.argv[2]) / str(number))
            os._exit(0)
        time.sleep(draw.uniform(0, 0.25 * attempts * longest))  # longer each time, as this machine may be slower now
        os.kill(child, signal.SIGKILL)
        killed = os.waitpid(child, 0)[1] != 0
        kills += killed
print(kills)
"""


def state(workspace: Workspace) -> tuple[list[object], dict[str, bytes]]:
    """All that a collection leaves, times aside."""
    with closing(sqlite3.connect(workspace.data / "catalogue.sqlite")) as database:
        photos = database.execute("SELECT sha, suffix, width, height, quarantined FROM photos ORDER BY sha").fetchall()
        entries = database.execute("SELECT * FROM entries ORDER BY path").fetchall()
    files = {name: data for name, (data, _) in content(workspace.data).items() if not name.startswith("catalogue")}
    quarantined = [name for name in files if name.startswith("quarantine/") and name.endswith(".json")]
    for name in quarantined:
        record = json.loads(files[name])
        del record["time"]
        files[name] = json.dumps(record).encode()
    return [*photos, *entries], files


def test_killed_at_any_point_it_ends_as_if_it_had_not_been(tmp_path: Path, table: Table):
    path = table({f"{number}.jpg": "cat dog" if number % 3 else "cow" for number in range(24)})
    (path.parent / "5.jpg").write_bytes(b"no photo")
    done = subprocess.run(
        [sys.executable, "-c", CHILD, path, tmp_path], capture_output=True, text=True, timeout=600, cwd=ROOT
    )
    assert not done.stderr
    assert int(done.stdout) >= 3, "most runs ended before they were killed"
    expected = state(Workspace(tmp_path / "undisturbed"))
    assert len(expected[0]) == 24 + 24
    for number in range(10):
        assert state(Workspace(tmp_path / str(number))) == expected


@pytest.mark.parametrize("noun", ["correction", "hint"])
def test_a_mask_of_another_size_than_its_photo_is_ignored(workspace: Workspace, tmp_path: Path, noun: str):
    """Of a new photo, of a known one, and until it fits."""
    Image.new("RGB", (30, 20)).save(tmp_path / "1.png")
    masks = (np.ones(size, dtype=np.uint8) for size in ((20, 30), (30, 20)))
    fits, turned = (Correction.of(mask, ("background", "cat")) for mask in masks)
    for mask, learned in ((turned, None), (fits, fits), (turned, None)):
        entry = {"image": "1.png", "tags": ["cat"], noun: asdict(mask)}
        (tmp_path / "photos.jsonl").write_text(json.dumps(entry) + "\n")
        faults = take(workspace, tmp_path / "photos.jsonl").skipped
        (photo,) = load(snapshot(workspace, ALL).training).photos
        assert getattr(photo, noun) == learned
        said = [f"its {noun} is ignored, as it is 20x30 pixels" in fault.why for fault in faults]
        assert said == ([] if learned else [True])
