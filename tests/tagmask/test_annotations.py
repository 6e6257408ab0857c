"""Tags that annotations give to the samples of an inbox, and take back."""

import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tagmask.errors import StorageFull
from tagmask.inbox import Annotation, Inbox
from tests.tagmask.test_inbox import SIZE, photo
from training.datasets import read_listing

ROOT = Path(__file__).parents[2]
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
PHOTOS = [photo(red=red) for red in (1, 90, 180)]

Event = tuple[int, int, int, tuple[str, ...]]
"""An annotation, the number of its state, its photo and its tags."""


def state(number: int, version: int = 1, *, project: str | None = "p", task: int = 1) -> Annotation:
    return Annotation(number, task, project, BEGIN + timedelta(seconds=version))


def annotate(inbox: Inbox, annotation: Annotation, *tags: str, data: bytes = PHOTOS[0]) -> object:
    if not tags:
        return inbox.clear(annotation)
    return inbox.annotate(annotation, data, tags, "image/jpeg", SIZE)


def tags_of(root: Path) -> list[tuple[str, ...]]:
    """The tags of each sample, as training reads them."""
    listing = read_listing(root, format="samples")
    assert listing.faults == []
    return sorted(each.tags for each in listing.photos.values())


def test_an_annotation_replaces_its_own_tags_and_no_others(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path, 0)
    inbox.add(PHOTOS[0], ["Sent", "both"], "image/jpeg", SIZE)
    annotate(inbox, state(1), "both", "SENT", "one")
    annotate(inbox, state(2), "one", "two")
    assert tags_of(tmp_path) == [("Sent", "both", "one", "two")]
    annotate(inbox, state(1, 2), "new")
    assert tags_of(tmp_path) == [("Sent", "both", "new", "one", "two")]
    annotate(inbox, state(2, 2))
    assert tags_of(tmp_path) == [("Sent", "both", "new")]
    assert [each.tags for each in inbox.delete("p", {1})] == [("Sent", "both")]
    (record,) = tmp_path.glob("[!.]*/*.json")
    assert not {"annotations", "sent"} & json.loads(record.read_text()).keys()


def test_a_sample_without_tags_stays_and_comes_back(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path, 0)
    annotate(inbox, state(1), "cat")
    inbox.delete("p", {1})
    assert tags_of(tmp_path) == [()]
    assert annotate(inbox, state(2), "dog") is not None
    assert tags_of(tmp_path) == [("dog",)]


def test_a_sample_of_an_earlier_version_keeps_its_tags(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path, 0)
    sample = inbox.add(PHOTOS[0], ["cat"], "image/jpeg", SIZE)
    path = tmp_path / sample.id[:2] / f"{sample.id}.json"
    path.write_text(json.dumps({"image": f"{sample.id}.jpg", "tags": ["owl"]}))
    annotate(inbox, state(1), "cat")
    inbox.delete("p", {1})
    assert tags_of(tmp_path) == [("owl",)]


def test_deleting_tasks_deletes_their_annotations(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path, 0)
    for number, data in enumerate(PHOTOS):
        annotate(inbox, state(number, task=number // 2), "cat", data=data)
    assert len(inbox.delete("p", tasks={0, 7})) == 2
    assert tags_of(tmp_path) == [(), (), ("cat",)]
    assert annotate(inbox, state(9, task=7), "cat") is None


def test_projects_have_their_own_annotations(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path, 0)
    for project, data in zip(("p", "q", None), PHOTOS, strict=True):
        annotate(inbox, state(1, project=project), "cat", data=data)
    inbox.delete("q", {1})
    assert tags_of(tmp_path) == [(), ("cat",), ("cat",)]
    inbox.delete(None, {1, 2})
    assert tags_of(tmp_path) == [(), (), ()]
    assert annotate(inbox, state(2), "cat") is None


def test_a_damaged_file_of_states_is_written_anew(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path, 0)
    annotate(inbox, state(1), "cat")
    (path,) = tmp_path.glob(".annotations/*.json")
    path.write_bytes(path.read_bytes()[:-3])
    annotate(inbox, state(1, 2), "dog")
    assert tags_of(tmp_path) == [("dog",)]


def test_a_full_disk_takes_corrections(tmp_path: Path) -> None:
    annotate(Inbox(tmp_path, 0), state(1), "cat")
    full = Inbox(tmp_path, 10**18)
    with pytest.raises(StorageFull):
        annotate(full, state(2), "dog", data=PHOTOS[1])
    full.delete("p", {1})
    assert tags_of(tmp_path) == [()]


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Event], set[int], list[int]]:
    """All states of some annotations, which of these are deleted, and an order of delivery, with repetitions.

    An index beyond the states is a deletion of the annotation that it exceeds them by.
    """
    counts = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    tags = st.sets(st.sampled_from(["cat", "dog", "owl"])).map(lambda its: tuple(sorted(its)))
    states = [
        (number, version, draw(st.integers(0, 1)), draw(tags))
        for number, count in enumerate(counts)
        for version in range(count)
    ]
    deleted = draw(st.sets(st.integers(0, len(counts) - 1)))
    events = [*range(len(states)), *(len(states) + number for number in deleted)]
    return states, deleted, draw(st.permutations(events + draw(st.lists(st.sampled_from(events), max_size=4))))


@settings(max_examples=40, deadline=None)
@given(histories())
def test_the_newest_states_win_in_any_order_of_delivery(history: tuple[list[Event], set[int], list[int]]) -> None:
    states, deleted, order = history
    expected: dict[int, set[str]] = {0: set(), 1: set()}
    newest = {number: (which, tags) for number, _, which, tags in states}
    for number, (which, tags) in newest.items():
        expected[which].update(() if number in deleted else tags)
    with tempfile.TemporaryDirectory() as folder:
        inbox = Inbox(Path(folder), 0)
        for event in order:
            if event < len(states):
                number, version, which, tags = states[event]
                annotate(inbox, state(number, version), *tags, data=PHOTOS[which])
            else:
                inbox.delete("p", {event - len(states)})
        found = [each for each in tags_of(Path(folder)) if each]
        assert found == sorted(tuple(sorted(tags)) for tags in expected.values() if tags)


def test_the_newest_state_wins_among_threads(tmp_path: Path) -> None:
    def send(version: int) -> None:
        annotate(Inbox(tmp_path, 0), state(1, version), f"tag-{version}", data=PHOTOS[version % 3])

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(send, range(24)))
    assert [each for each in tags_of(tmp_path) if each] == [("tag-23",)]


SCRIPT = """
import itertools, os, sys
from pathlib import Path
from tagmask.inbox import Inbox
from tests.tagmask.killed import die_before
from tests.tagmask.test_annotations import PHOTOS, annotate, state
here, deletes = Path(sys.argv[1]), sys.argv[2] == "delete"
for step in itertools.count(1):
    inbox = Inbox(here / str(step), 0)
    annotate(inbox, state(1), "cat")
    child = os.fork()
    if not child:
        die_before(step)
        inbox.delete("p", {1}) if deletes else annotate(inbox, state(1, 2), "dog", data=PHOTOS[1])
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
print(step)
"""


@pytest.mark.parametrize("change", ["delete", "update"])
def test_a_change_that_was_killed_is_completed_when_it_is_repeated(tmp_path: Path, change: str) -> None:
    command: list[Any] = [sys.executable, "-c", SCRIPT, tmp_path, change]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True)
    for step in range(1, int(ran.stdout) + 1):
        root = tmp_path / str(step)
        inbox = Inbox(root, 0)
        if change == "delete":
            inbox.delete("p", {1})
        else:
            annotate(inbox, state(1, 2), "dog", data=PHOTOS[1])
        assert tags_of(root) == ([()] if change == "delete" else [(), ("dog",)])
        assert not list(root.rglob(".part"))
