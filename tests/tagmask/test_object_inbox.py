"""The inbox in object storage: its rules with objects in memory, its durability on a real S3 server."""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import count

import pytest
from hypothesis import given, settings
from obstore.store import MemoryStore

from tagmask import objects
from tagmask.corrections import Correction
from tagmask.errors import DataError, Internal, StartError, Unprocessable
from tagmask.inbox import Inbox, bucket, forgotten_samples
from tagmask.objects import Objects
from tests import ceph
from tests.faults import Proxy
from tests.tagmask.test_annotations import PHOTOS, Event, annotate, histories, state
from tests.tagmask.test_inbox import CAT, DOG, NOTHING_SAID, ROOT, SIZE
from training.datasets import load

NUMBERS = count()
ID = hashlib.sha256(PHOTOS[0]).hexdigest()


@pytest.fixture
def url(s3: Proxy) -> str:
    return f"s3://{ceph.BUCKET}/inboxes/{next(NUMBERS)}"


def add(url: str, *tags: str, correction: Correction | None = None, data: bytes = PHOTOS[0]) -> bool:
    return Inbox(url, 0).add(data, tags, "image/jpeg", SIZE, correction=correction).corrected


def names(url: str) -> list[str]:
    return sorted(each["path"] for each in Objects(url).list())


def tags_of(url: str) -> list[tuple[str, ...]]:
    """The tags of each sample that training learns from."""
    try:
        return sorted(photo.tags for photo in load(url, format="samples").photos)
    except DataError:
        return []


def meanwhile(monkeypatch: pytest.MonkeyPatch, suffix: str, act: Callable[[], object]) -> None:
    """Call `act` once, right before a document whose name ends in `suffix` is written."""
    replace, waiting = Objects.replace, [act]

    def replace_after(self: Objects, name: str, *arguments: object) -> None:
        if name.endswith(suffix) and waiting:
            waiting.pop()()
        replace(self, name, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Objects, "replace", replace_after)


def test_a_sample_is_read_as_from_a_folder(memory: str) -> None:
    inbox = Inbox(memory, min_free_bytes=10**18)  # which is for the disk of a folder
    assert inbox.add(PHOTOS[0], ["dog"], "image/jpeg", SIZE).created
    assert not inbox.add(PHOTOS[0], ["cat"], "image/jpeg", SIZE, correction=DOG).created
    (photo,) = load(memory, corrections=memory).photos
    assert (photo.id, photo.tags, photo.correction) == (f"{ID[:2]}/{ID}", ("cat", "dog"), DOG)
    assert photo.path.read_bytes() == PHOTOS[0]
    assert (inbox.has(ID), inbox.has("0" * 64)) == (True, False)


def test_the_newest_correction_is_the_one_of_a_sample(memory: str) -> None:
    for correction in (DOG, CAT):
        assert add(memory, "cat", "dog", correction=correction)
        assert [photo.correction for photo in load(memory, corrections=memory).photos] == [correction]
        assert len(names(memory)) == 3
    assert add(memory, "cat")
    assert not add(memory, "cat", correction=NOTHING_SAID)
    assert names(memory) == [f"{ID[:2]}/{ID}.jpg", f"{ID[:2]}/{ID}.json"]
    assert [path.name for path in load(memory).root.rglob("*.correction.png")] == []


def test_nothing_of_a_faster_writer_is_lost(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for faster in (DOG, None):
        meanwhile(monkeypatch, f"{ID}.json", lambda: add(memory, "dog", correction=faster))  # noqa: B023
        assert add(memory, "cat", correction=CAT)
        (photo,) = load(memory, corrections=memory).photos
        assert (photo.tags, photo.correction) == (("cat", "dog"), CAT)
        assert len(names(memory)) == 3


def test_a_sample_that_is_forgotten_while_it_is_stored_is_gone(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    meanwhile(monkeypatch, f"{ID}.json", lambda: Inbox(memory, 0).forget(ID))
    with pytest.raises(Unprocessable, match="this photo was forgotten"):
        add(memory, "cat", correction=CAT)
    assert names(memory) == [f".forgotten/{ID}"]
    assert list(forgotten_samples(memory)) == [ID]
    with pytest.raises(Unprocessable, match="this photo was forgotten"):
        add(memory, "cat")


def test_only_a_forgotten_sample_is_removed(memory: str) -> None:
    for data in PHOTOS:
        add(memory, "cat", correction=CAT, data=data)
    Inbox(memory, 0).forget(ID)
    assert len([name for name in names(memory) if ID in name]) == 1
    assert tags_of(memory) == [("cat",), ("cat",)]


@pytest.mark.parametrize("newer", ["changed", "cleared", "deleted", "deleted everywhere", "of another photo"])
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("suffix", [f"{ID}.json", "p.json"])
def test_a_slower_state_of_an_annotation_undoes_nothing(
    memory: str, monkeypatch: pytest.MonkeyPatch, newer: str, known: bool, suffix: str
) -> None:
    inbox = Inbox(memory, 0)
    if known:
        annotate(inbox, state(1, 0), "owl")
    change: dict[str, Callable[[], object]] = {
        "changed": lambda: annotate(inbox, state(1, 2), "owl"),
        "cleared": lambda: annotate(inbox, state(1, 2)),
        "deleted": lambda: inbox.delete("p", {1}),
        "deleted everywhere": lambda: inbox.delete(None, {1}),
        "of another photo": lambda: annotate(inbox, state(1, 2), "owl", data=PHOTOS[1]),
    }
    meanwhile(monkeypatch, suffix, change[newer])
    assert annotate(inbox, state(1, 1), "cat") is None
    assert [tags for tags in tags_of(memory) if tags] == (
        [("owl",)] if newer in ("changed", "of another photo") else []
    )


def test_a_correction_goes_with_the_annotation_that_gave_it(memory: str) -> None:
    inbox = Inbox(memory, 0)
    inbox.annotate(state(1), PHOTOS[0], ["dog"], "image/jpeg", SIZE, correction=DOG)
    assert len(names(memory)) == 4
    add(memory, "cat")
    assert [(each.tags, each.corrected) for each in inbox.delete("p", {1})] == [(("cat",), False)]
    assert len(names(memory)) == 3


@settings(max_examples=25)
@given(histories())
def test_the_newest_states_win_in_any_order_of_delivery(history: tuple[list[Event], set[int], list[int]]) -> None:
    states, deleted, order = history
    newest = {number: (which, tags) for number, _, which, tags in states}
    expected: dict[int, set[str]] = {0: set(), 1: set()}
    for number, (which, tags) in newest.items():
        expected[which].update(() if number in deleted else tags)
    with pytest.MonkeyPatch.context() as patch:
        store = MemoryStore()
        patch.setattr(objects, "open_objects", lambda url, patience: store)
        inbox, given_tags = Inbox("s3://bucket/inbox", 0), []
        for event in order:
            if event < len(states):
                number, version, which, tags = states[event]
                annotate(inbox, state(number, version), *tags, data=PHOTOS[which])
            else:
                inbox.delete("p", {event - len(states)})
        for data in PHOTOS[:2]:  # what is stored once more tells its tags
            given_tags.append(set(inbox.add(data, ["last"], "image/jpeg", SIZE).tags) - {"last"})
    assert given_tags == [expected[0], expected[1]]


def test_the_newest_state_wins_among_threads(memory: str) -> None:
    def send(version: int) -> None:
        annotate(Inbox(memory, 0), state(1, version), f"tag-{version}", data=PHOTOS[version % 3])

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(send, range(24)))
    assert [each for each in tags_of(memory) if each] == [("tag-23",)]


def test_no_tag_is_lost_between_processes(url: str) -> None:
    script = """
import sys
from tagmask.inbox import Inbox
inbox = Inbox(sys.argv[1], 0)
for turn in range(4):
    inbox.add(bytes.fromhex(sys.argv[3]), [f"{sys.argv[2]}-{turn}"], "image/jpeg", (8, 12))
"""
    command = [sys.executable, "-c", script, url]
    started = [subprocess.Popen([*command, str(number), PHOTOS[0].hex()], cwd=ROOT) for number in range(3)]
    assert [process.wait() for process in started] == [0, 0, 0]
    assert tags_of(url) == [tuple(sorted(f"{number}-{turn}" for number in range(3) for turn in range(4)))]


@pytest.mark.parametrize("fault", ["503", "cut after"])
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_fault_that_passes_changes_nothing(url: str, s3: Proxy, method: str, fault: str) -> None:
    inbox = Inbox(url, 0)
    s3.faults += [(method, fault)] * 2  # type: ignore[list-item]
    assert inbox.add(PHOTOS[0], ["dog"], "image/jpeg", SIZE, correction=DOG).corrected
    inbox.add(PHOTOS[0], ["cat"], "image/jpeg", SIZE)
    assert s3.faults == []
    (photo,) = load(url, corrections=url).photos
    assert (photo.tags, photo.correction, photo.path.read_bytes()) == (("cat", "dog"), DOG, PHOTOS[0])
    assert len(names(url)) == 3


@pytest.mark.parametrize("written", [0, 1, 2])
def test_a_write_that_is_cut_leaves_no_sample(
    url: str, s3: Proxy, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    monkeypatch.setattr(bucket, "_PATIENCE", timedelta())
    inbox, left = Inbox(url, 0), [None] * written

    def vanish(method: str, path: str) -> None:
        if method == "PUT" and not (left and left.pop() is None):
            s3.target = "127.0.0.1:9"  # nothing listens there

    target, s3.before = s3.target, vanish
    with pytest.raises(Internal, match="could not be written; try again later") as refused:
        inbox.add(PHOTOS[0], ["dog"], "image/jpeg", SIZE, correction=DOG)
    assert f"{url}/{ID[:2]}/{ID}" in str(refused.value.__cause__)
    s3.target, s3.before = target, lambda method, path: None
    assert len(names(url)) == written
    assert tags_of(url) == []
    assert inbox.add(PHOTOS[0], ["cat"], "image/jpeg", SIZE).created
    assert tags_of(url) == [("cat",)]


def test_an_inbox_that_cannot_be_read_does_not_start(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StartError, match=r"inbox s3://none/x/\.forgotten: object storage failed .*NoSuchBucket"):
        Inbox("s3://none/x", 0)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StartError, match=r"SignatureDoesNotMatch.*credentials in the environment"):
        Inbox(url, 0)


def test_the_command_line_lists_checks_and_forgets(memory: str, command: Callable[..., tuple[int, str, str]]) -> None:
    add(memory, "cat", "dog", correction=CAT)
    add(memory, "dog", data=PHOTOS[1])
    status, listed, _ = command("inbox", "list", memory)
    assert status == 0
    assert f"{ID}  cat dog  corrected: cat" in listed
    status, checked, _ = command("data", "check", memory)
    assert (status, "2 photos" in checked) == (0, True)
    assert command("inbox", "forget", ID, "--inbox", memory)[0] == 0
    assert ID not in command("inbox", "list", memory)[1]
