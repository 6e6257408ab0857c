import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tagmask.errors import BundleError
from tagmask.store import MAX_FORMER, Store, StoreUnwritable, UnknownVersion
from tests.training.colour_bundle import write_colour_bundle

ROOT = Path(__file__).parents[2]
HOSTILE = [
    "",
    ".",
    "..",
    "../a",
    "a/../../b",
    "a/b",
    "/etc",
    "A",
    "a\n",
    "a\0",
    "é",
    "-a",
    ".a",
    "a" * 65,
    "~",
    "%2e%2e",
]


def version(letter: str) -> str:
    return letter * 12


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def bundle(store: Store, letter: str, **changed: object) -> Path:
    """A bundle beside the store, of weights named by `letter`."""
    metadata = {"created": "2026-01-01T00:00:00+00:00", "weights_digest": letter * 64, **changed}
    return write_colour_bundle(store.root.parent / f"{letter}.onnx", **metadata)


def publish(store: Store, letters: str) -> None:
    for letter in letters:
        store.publish(bundle(store, letter))


def promoted(store: Store, letters: str) -> None:
    publish(store, "".join(sorted(set(letters))))
    promote(store, letters)


def promote(store: Store, letters: str) -> None:
    for letter in letters:
        store.promote(version(letter))


def chain(store: Store) -> str:
    """The champion and those before it, newest first, a letter each."""
    champion = store.champion()
    return "" if champion is None else "".join(name[0] for name in (champion.version, *champion.before))


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_what_is_published_is_found(store: Store):
    source = bundle(store, "c")
    record = store.publish(source)
    assert record.version == version("c")
    assert record.bytes == source.stat().st_size
    assert store.path(version("c")).read_bytes() == source.read_bytes()
    assert store.record(version("c")) == record
    assert store.champion() is None
    publish(store, "ab")
    assert store.versions() == (version("c"), version("a"), version("b"))
    assert set(files(store.root)) == {".lock", "history.jsonl"} | {
        f"bundles/{version(letter)}/{name}" for letter in "abc" for name in ("model.onnx", "record.json")
    }


def test_the_same_bytes_again_change_nothing(store: Store):
    first = store.publish(bundle(store, "a"))
    before = store.path(version("a")).stat()
    assert store.publish(bundle(store, "a")) == first
    assert store.path(version("a")).stat().st_ino == before.st_ino


def test_other_bytes_of_a_version_are_refused(store: Store):
    publish(store, "a")
    held = files(store.root)
    with pytest.raises(BundleError, match=r"a\.onnx: version aaaaaaaaaaaa is in the store with different bytes"):
        store.publish(bundle(store, "a", photos=99))
    assert files(store.root) == held


def test_what_is_no_bundle_makes_no_store(store: Store, tmp_path: Path):
    with pytest.raises(BundleError, match="cannot be read"):
        store.publish(tmp_path / "absent.onnx")
    assert not store.root.exists()


@pytest.mark.parametrize("damage", [b"", b"rubbish", None])
def test_a_damaged_copy_is_not_promoted_and_put_right_by_publishing_again(store: Store, damage: bytes | None):
    promoted(store, "ab")
    record = store.record(version("a"))
    copy = store.path(version("a"))
    copy.unlink()
    if damage is not None:
        copy.write_bytes(damage)
    with pytest.raises(BundleError, match=str(copy)):
        store.promote(version("a"))
    with pytest.raises(BundleError, match="no former champion"):
        store.rollback()
    assert chain(store) == "ba"
    assert store.publish(bundle(store, "a")) == record
    assert store.rollback().version == version("a")


def test_reading_an_absent_store_makes_nothing(store: Store):
    assert store.versions() == ()
    assert store.champion() is None
    for ask in (store.record, store.path, store.promote):
        with pytest.raises(UnknownVersion, match="'aaaaaaaaaaaa' is not in the store"):
            ask(version("a"))
    for ask_back in (store.previous, store.rollback):
        with pytest.raises(BundleError, match="no former champion"):
            ask_back()
    assert not store.root.exists()


def test_reading_changes_no_file(store: Store):
    promoted(store, "ab")
    (store.root / ".lock").unlink()  # a copy on a read-only disk has none
    held = files(store.root)
    assert store.versions() == (version("a"), version("b"))
    assert (store.previous(), chain(store)) == (version("a"), "ba")
    assert files(store.root) == held


def test_what_cannot_be_written_is_told(tmp_path: Path, store: Store):
    source = bundle(store, "a")
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnwritable, match=r"file: cannot be written \(.*\); choose another folder"):
        Store(tmp_path / "file" / "store").publish(source)
    promoted(store, "a")
    publish(store, "b")
    (store.root / ".lock").unlink()
    (store.root / ".lock").mkdir()
    with pytest.raises(StoreUnwritable, match=r"\.lock: cannot be written"):
        store.promote(version("b"))


@pytest.mark.parametrize("name", HOSTILE)
def test_no_version_leads_out_of_the_store(store: Store, name: str):
    publish(store, "a")
    if not name.startswith("/") and "\0" not in name:
        planted = store.root / "bundles" / name / "record.json"
        planted.parent.mkdir(parents=True, exist_ok=True)
        planted.write_text(json.dumps(json.loads(store.record(version("a")).model_dump_json()) | {"version": name}))
    for ask in (store.record, store.path, store.promote):
        with pytest.raises(UnknownVersion):
            ask(name)
    assert store.versions() == (version("a"),)
    assert store.champion() is None


def test_a_record_has_to_be_its_own(store: Store):
    publish(store, "ab")
    record = store.path(version("a")).with_name("record.json")
    for text in (record.parent.with_name(version("b")).joinpath("record.json").read_text(), "", "{", "[]", "{}"):
        record.write_text(text)
        with pytest.raises(BundleError, match=f"{record}: .*; remove that file and add the bundle again"):
            store.record(version("a"))
        with pytest.raises(BundleError, match=str(record)):
            store.publish(bundle(store, "a"))
        assert store.versions() == (version("b"),)
    record.unlink()
    publish(store, "a")
    assert store.versions() == (version("b"), version("a"))


def test_champions_follow_each_other_and_step_back(store: Store):
    promoted(store, "abca")
    assert chain(store) == "acba"
    since = store.champion()
    assert store.promote(version("a")) == since  # it is champion already
    assert store.previous() == version("c")
    assert store.rollback().version == version("c")
    assert chain(store) == "cba"
    assert store.rollback().version == version("b")
    store.promote(version("c"))
    assert chain(store) == "cba"


def test_stepping_back_passes_over_what_is_gone(store: Store):
    promoted(store, "abcdcd")  # dcdcba
    store.path(version("c")).write_bytes(b"rubbish")
    store.path(version("b")).with_name("record.json").unlink()
    assert store.previous() == version("a")  # not "d", which is the champion
    assert store.rollback().version == version("a")
    with pytest.raises(BundleError, match="no former champion"):
        store.rollback()
    assert chain(store) == "a"


def test_only_so_many_are_remembered(store: Store):
    promoted(store, "ab" * MAX_FORMER)
    assert chain(store) == ("ba" * MAX_FORMER)[: MAX_FORMER + 1]


def test_who_expects_another_champion_changes_nothing(store: Store):
    publish(store, "abc")
    with pytest.raises(BundleError, match=r"the champion is not set, not a{12} as expected"):
        store.promote(version("b"), expected=version("a"))
    store.promote(version("a"))
    store.promote(version("b"), expected=version("a"))
    with pytest.raises(BundleError, match=r"the champion is b+, not a+ as expected"):
        store.promote(version("c"), expected=version("a"))
    with pytest.raises(BundleError, match=r"the champion is b+, not a+ as expected"):
        store.rollback(expected=version("a"))
    assert chain(store) == "ba"
    assert store.rollback(expected=version("b")).version == version("a")


def test_who_expects_no_champion_replaces_none(store: Store):
    publish(store, "abc")
    store.promote(version("a"), expected=None)
    with pytest.raises(BundleError, match=r"the champion is a+, not unset as expected"):
        store.promote(version("b"), expected=None)
    assert chain(store) == "a"
    store.path(version("a")).unlink()
    assert store.promote(version("b"), expected=None).version == version("b")


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"\xff", b"{}", b'{"version": 1, "since": "2026-01-01T00:00:00Z", "before": []}']
)
def test_a_damaged_pointer_is_named_with_what_to_do(store: Store, text: bytes):
    promoted(store, "ab")
    pointer = store.root / "champion.json"
    pointer.write_bytes(text)
    for ask in (store.champion, store.previous, store.rollback, lambda: store.promote(version("a"))):
        with pytest.raises(
            BundleError, match=f"{pointer}: damaged.*; remove that file, then run `tagmask models promote"
        ):
            ask()
    assert pointer.read_bytes() == text
    pointer.unlink()
    store.promote(version("a"))
    assert chain(store) == "a"


def test_a_pointer_is_a_file(store: Store):
    (store.root / "champion.json").mkdir(parents=True)
    with pytest.raises(BundleError, match=r"champion\.json: is not a regular file"):
        store.champion()


def test_others_may_read_whatever_the_umask(store: Store):
    before = os.umask(0o077)
    try:
        promoted(store, "a")
    finally:
        os.umask(before)
    for path in (store.root, *store.root.rglob("*")):
        if path.name != ".lock":
            assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644), path


class Killed(BaseException):
    pass


@contextmanager
def dying_at(step: int) -> Iterator[list[str]]:
    """This process is as good as dead from its `step`-th change of the disk on: none is made, no remains removed.

    Yields the names of the changes that were made, those of fsync with what reached the disk: a file or a folder.
    """
    changes: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in ((os, "fsync"), (Path, "replace"), (Path, "mkdir"), (Path, "unlink"), (Path, "rmdir")):
            real = getattr(owner, name)

            def change(*arguments: Any, real=real, name=name, **options: object) -> object:
                if name == "mkdir" and Path(str(arguments[0])).is_dir():
                    return real(*arguments, **options)  # changes nothing
                if len(changes) == step:
                    raise Killed
                if name == "fsync":
                    folder = stat.S_ISDIR(os.fstat(arguments[0]).st_mode)
                    changes.append("fsync folder" if folder else "fsync file")
                else:
                    changes.append(name)
                return real(*arguments, **options)

            patch.setattr(owner, name, change)
        yield changes


def test_every_change_reaches_the_disk_before_the_next(store: Store):
    source = bundle(store, "a")
    with dying_at(1000) as changes:
        store.publish(source)
        store.promote(version("a"))
    assert (changes.count("mkdir"), changes.count("replace")) == (3, 3)
    for step, name in enumerate(changes):
        if name == "replace":
            assert (changes[step - 1], changes[step + 1]) == ("fsync file", "fsync folder")
        if name == "mkdir":
            assert changes[step + 1] == "fsync folder"
    assert changes[-1] == "fsync file"  # of the history, which is there already
    assert changes.count("fsync folder") == 3 + 3 + 1  # and once when the history was made


def remains(store: Store) -> list[str]:
    """What lies in the store beside published bundles, the pointer, the history and the lock."""
    due = {f"bundles/{name}/{file}" for name in store.versions() for file in ("model.onnx", "record.json")}
    return sorted(set(files(store.root)) - due - {"champion.json", "history.jsonl", ".lock"})


def test_a_killed_publish_leaves_all_or_nothing(tmp_path: Path):
    seen = set()
    for step in range(100):
        store = Store(tmp_path / f"store{step}")
        source = bundle(store, "a")
        try:
            with dying_at(step):
                store.publish(source)
        except Killed:
            pass
        else:
            break
        seen |= {Path(name).name.split(".")[-1] for name in remains(store)}
        if store.versions():
            assert store.path(version("a")).read_bytes() == source.read_bytes()
        else:
            with pytest.raises(UnknownVersion):
                store.path(version("a"))
        publish(store, "b")
        assert remains(store) == []
        publish(store, "a")
        assert set(store.versions()) == {version("a"), version("b")}
    assert step > 8
    assert seen == {"part", "onnx"}  # half-written files, and a bundle without its record


def test_a_killed_writer_leaves_a_whole_pointer(tmp_path: Path):
    for act, before, after in (("promote", "ba", "cba"), ("rollback", "ba", "a")):
        store = Store(tmp_path / act)
        promoted(store, "ab")
        publish(store, "c")
        left = set()
        for step in range(100):
            try:
                with dying_at(step):
                    promote(store, "c") if act == "promote" else store.rollback()
            except Killed:
                left |= set(remains(store))
                assert chain(store) in (before, after)
                if chain(store) == after:  # killed after the rename: the same again from the beginning
                    (store.root / "champion.json").unlink()
                    promote(store, "ab")
            else:
                break
        assert step > 1
        assert left, "a temporary file was left at some step"
        assert chain(store) == after
        assert remains(store) == []


def test_no_promotion_is_lost_between_processes(store: Store):
    letters = "abcdef"
    publish(store, letters)
    script = (
        "import sys; from pathlib import Path; from tagmask.store import Store; store = Store(Path(sys.argv[1])); "
        "print(flush=True); sys.stdin.readline(); "
        "[store.promote(version) for _ in range(8) for version in sys.argv[2:]]"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(store.root), *(version(letter) for letter in pair)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for pair in ("ab", "cd", "ef")
    ]
    for process in started:
        assert process.stdout is not None
        process.stdout.readline()  # it has imported everything
    for process in started:
        assert process.stdin is not None
        process.stdin.close()
    while any(process.poll() is None for process in started):
        store.champion()  # never half written
    assert [process.wait() for process in started] == [0, 0, 0]
    found = chain(store)
    # No two processes share a version, so each of the 3 x 8 x 2 promotions changes the champion.
    assert sorted(found) == sorted(letters * 8)
    for pair in ("ab", "cd", "ef"):
        assert "".join(letter for letter in found[::-1] if letter in pair) == pair * 8


def summary(store: Store) -> str:
    """The history: a letter of each event and one of its version."""
    return " ".join(event.event[0] + event.version[0] for event in store.history())


def decide(store: Store, letter: str, promoted: bool = True) -> None:
    store.record_decision(
        version(letter), promoted=promoted, reasons=["mIoU 61.2 against 58.0"], figures={"miou": 61.2, "iou": [1, None]}
    )


def test_history_tells_what_happened_and_nothing_else(store: Store):
    assert list(store.history()) == []
    assert not store.root.exists()
    publish(store, "ab")
    publish(store, "a")  # is there
    promote(store, "aab")
    decide(store, "c", promoted=False)
    rolled = store.rollback()
    with pytest.raises(BundleError):
        store.rollback()
    assert summary(store) == "pa pb pa pb dc ra"
    events = list(store.history())
    assert [event.event for event in events] == ["published"] * 2 + ["promoted"] * 2 + ["decided", "rolled back"]
    assert (events[0].at, events[-1].at) == (store.record(version("a")).published, rolled.since)
    assert (events[4].promoted, events[4].reasons) == (False, ("mIoU 61.2 against 58.0",))
    assert events[4].figures == {"miou": 61.2, "iou": [1, None]}
    assert (events[5].promoted, events[5].figures) == (None, {})
    lines = (store.root / "history.jsonl").read_text().split("\n")
    assert [json.loads(line).keys() - {"at"} for line in lines[:-1]] == [
        *[{"event", "version"}] * 4,
        {"event", "version", "promoted", "reasons", "figures"},
        {"event", "version"},
    ]
    assert lines[-1] == ""


def test_a_decision_needs_no_store_before(store: Store):
    decide(store, "a")
    assert summary(store) == "da"
    assert store.versions() == ()


@pytest.mark.parametrize("torn", [b'{"at": "2026-01', b"\xff\0", b"null\n", b"\n"])
def test_a_line_that_a_killed_writer_left_is_passed_over(store: Store, torn: bytes):
    publish(store, "a")
    with (store.root / "history.jsonl").open("ab") as file:
        file.write(torn)
    assert summary(store) == "pa"
    publish(store, "b")
    promote(store, "b")
    assert summary(store) == "pa pb pb"
    published, *torn_lines, _, _ = (store.root / "history.jsonl").read_bytes().splitlines()
    assert torn_lines == torn.splitlines()  # and nothing but them is between the events
    assert version("a").encode() in published


def test_what_was_done_stays_done_when_the_history_cannot_be_written(store: Store, caplog: pytest.LogCaptureFixture):
    publish(store, "ab")
    (store.root / "history.jsonl").unlink()
    (store.root / "history.jsonl").mkdir()
    promote(store, "ab")
    assert chain(store) == "ba"
    lost = (
        f"'{version('b')} promoted' is missing in the history: {store.root / 'history.jsonl'}: cannot be written "
        "(Is a directory); choose another folder"
    )
    assert caplog.messages[-1] == lost
    with pytest.raises(StoreUnwritable, match=r"history\.jsonl: cannot be written"):
        decide(store, "a")
    with pytest.raises(BundleError, match=r"history\.jsonl: is not a regular file"):
        list(store.history())


def test_no_line_is_lost_between_processes(store: Store):
    script = (
        "import sys; from pathlib import Path; from tagmask.store import Store; store = Store(Path(sys.argv[1])); "
        "[store.record_decision(sys.argv[2], promoted=True, reasons=['x' * 5000], figures={}) for _ in range(20)]"
    )
    started = [subprocess.Popen([sys.executable, "-c", script, str(store.root), name], cwd=ROOT) for name in "ab"]
    assert [process.wait() for process in started] == [0, 0]
    assert sorted(summary(store).split()) == ["da"] * 20 + ["db"] * 20


@pytest.mark.parametrize(
    ("champions", "newest", "removed"),
    [
        ("", 9, ""),
        ("", 5, ""),
        ("", 2, "abc"),
        ("", 0, "abcde"),
        ("e", 2, "abc"),
        ("a", 2, "bc"),  # the champion is old
        ("ab", 2, "c"),  # and the one before it is older
        ("abed", 2, "abc"),
        ("abab", 0, "cde"),
    ],
)
def test_only_the_newest_are_kept_and_what_may_be_served(store: Store, champions: str, newest: int, removed: str):
    publish(store, "abcde")
    promote(store, champions)
    before = chain(store)
    assert store.retain(newest) == tuple(map(version, removed))
    assert "".join(name[0] for name in store.versions()) == "".join(sorted(set("abcde") - set(removed)))
    assert {path.name for path in (store.root / "bundles").iterdir()} == set(store.versions())
    assert chain(store) == before
    assert summary(store).split()[5 + len(champions) :] == [f"r{letter}" for letter in removed]
    if len(champions) > 1:
        assert store.rollback().version == version(champions[-2])


def test_a_version_is_had_when_its_file_is_there(store: Store):
    publish(store, "ab")
    store.path(version("b")).unlink()
    assert [store.has(version(letter)) for letter in "abc"] == [True, False, False]
    assert not store.has("../a")


def test_a_version_is_intact_when_its_file_is_as_it_was_published(store: Store):
    publish(store, "ab")
    assert store.is_intact(version("a"))
    for content in (b"", store.path(version("b")).read_bytes()):
        store.path(version("a")).write_bytes(content)
        assert not store.is_intact(version("a"))
        publish(store, "a")
        assert store.is_intact(version("a"))
    assert not any(map(store.is_intact, (version("c"), "../a")))


def test_other_bytes_in_the_place_of_a_former_champion_are_not_gone_back_to(store: Store):
    promoted(store, "abc")
    store.path(version("b")).write_bytes(bundle(store, "b", photos=99).read_bytes())
    assert store.rollback().version == version("a")


def test_a_version_whose_file_is_gone_is_removed(store: Store):
    publish(store, "ab")
    store.path(version("a")).unlink()
    assert store.retain(1) == (version("a"),)


def test_foreign_files_stay(store: Store):
    publish(store, "a")
    foreign = store.root / "bundles" / "notes" / "read.me"
    foreign.parent.mkdir()
    foreign.write_text("mine")
    publish(store, "b")
    assert foreign.read_text() == "mine"


def test_the_one_to_go_back_to_is_one_that_is_whole(store: Store):
    promoted(store, "abc")
    publish(store, "de")
    store.path(version("b")).write_bytes(b"rubbish")
    assert store.retain(1) == (version("b"), version("d"))
    assert store.rollback().version == version("a")


def test_what_is_removed_can_be_published_again(store: Store):
    publish(store, "ab")
    store.retain(1)
    with pytest.raises(UnknownVersion):
        store.path(version("a"))
    publish(store, "a")
    assert store.versions() == (version("b"), version("a"))
    with pytest.raises(ValueError, match="at least 0"):
        store.retain(-1)


def test_a_damaged_pointer_removes_nothing(store: Store):
    promoted(store, "ab")
    (store.root / "champion.json").write_text("{")
    with pytest.raises(BundleError, match="damaged"):
        store.retain(0)
    assert len(store.versions()) == 2


def test_a_version_removed_while_it_is_promoted_is_not_promoted(store: Store, monkeypatch: pytest.MonkeyPatch):
    publish(store, "ab")
    real = store._storage.writing

    def late() -> object:
        monkeypatch.undo()
        store.retain(1)
        return real()

    monkeypatch.setattr(store._storage, "writing", late)
    with pytest.raises(UnknownVersion):
        store.promote(version("a"))
    assert store.champion() is None


def test_a_killed_removal_leaves_all_or_nothing(tmp_path: Path):
    seen = set()
    for step in range(100):
        store = Store(tmp_path / f"store{step}")
        publish(store, "ab")
        try:
            with dying_at(step):
                store.retain(1)
        except Killed:
            pass
        else:
            break
        published = version("a") in store.versions()
        seen.add((published, (store.root / "bundles" / version("a") / "model.onnx").exists()))
        if published:
            assert store.promote(version("a")).version == version("a")
        publish(store, "c")
        assert remains(store) == []
        assert {path.name for path in (store.root / "bundles").iterdir()} == set(store.versions())
    assert seen == {(True, True), (False, True), (False, False)}
