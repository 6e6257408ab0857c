"""Forgetting a sample of an inbox, and finding the bundles that learned from it."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from tagmask.bundle import read_metadata, read_samples, write_decision
from tagmask.errors import DataError, NotFound, Unprocessable
from tagmask.inbox import Annotation, Inbox, forgotten_samples
from tagmask.learners import Learners, find_learners
from tagmask.store import Store
from tests.tagmask.test_inbox import ROOT, SIZE, photo, send
from tests.training.colour_bundle import write_colour_bundle
from training.datasets import load

PHOTO, OTHER = photo(), photo(red=100)
NAME, OTHER_NAME = (hashlib.sha256(data).hexdigest() for data in (PHOTO, OTHER))


def stored(root: Path) -> list[str]:
    return sorted(path.name for path in root.glob("[0-9a-f]*/[!.]*"))


def test_a_forgotten_sample_is_gone_and_not_stored_again(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path, 0)
    for data in (PHOTO, OTHER):
        inbox.add(data, ["dog"], "image/jpeg", SIZE)
    inbox.forget(NAME)
    inbox.forget(NAME)
    assert [each.path.stem for each in load(tmp_path).photos] == [OTHER_NAME]
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob(f"{NAME}*")] == [Path(".forgotten", NAME)]
    assert list(forgotten_samples(tmp_path)) == [NAME]
    assert (inbox.has(NAME), inbox.has(OTHER_NAME), inbox.has("0" * 64)) == (True, True, False)
    with pytest.raises(Unprocessable, match="this photo was forgotten") as refused:
        send(tmp_path, PHOTO, "cat")
    assert (refused.value.code, refused.value.field) == ("forgotten", "image")
    assert not inbox.add(OTHER, ["cat"], "image/jpeg", SIZE).created


def test_a_photo_can_be_forgotten_before_it_arrives(tmp_path: Path) -> None:
    Inbox(tmp_path, 0).forget(NAME)
    with pytest.raises(Unprocessable, match="forgotten"):
        send(tmp_path, PHOTO, "cat")


def test_an_annotation_of_a_forgotten_photo_is_refused(tmp_path: Path) -> None:
    inbox, annotation = Inbox(tmp_path, 0), Annotation(7, 3)
    inbox.annotate(annotation, PHOTO, ["dog"], "image/jpeg", SIZE)
    inbox.forget(NAME)
    with pytest.raises(Unprocessable, match="forgotten"):
        inbox.annotate(annotation, PHOTO, ["cat"], "image/jpeg", SIZE)
    assert stored(tmp_path) == []
    assert inbox.clear(annotation) == []


def test_its_digest_can_be_accepted_again_by_hand(tmp_path: Path) -> None:
    Inbox(tmp_path, 0).forget(NAME)
    (tmp_path / ".forgotten" / NAME).unlink()
    assert send(tmp_path, PHOTO, "cat").created


@pytest.mark.parametrize("name", ["", "abc", NAME.upper(), "../" + NAME[3:], NAME + "0", f"{NAME}\n"])
def test_what_is_no_id_is_refused(tmp_path: Path, name: str) -> None:
    for call in (Inbox(tmp_path, 0).forget, Inbox(tmp_path, 0).has):
        with pytest.raises(NotFound, match="64 hex digits"):
            call(name)


def test_a_kill_before_any_step_is_finished_by_the_next_call(tmp_path: Path) -> None:
    script = f"""
import itertools, os, sys
from pathlib import Path
from tagmask.inbox import Inbox
from tests.tagmask.killed import die_before
from tests.tagmask.test_inbox import photo
for step in itertools.count(1):
    inbox = Inbox(Path(sys.argv[1], str(step)), 0)
    inbox.add(photo(), ["dog"], "image/jpeg", (8, 12))
    child = os.fork()
    if not child:
        die_before(step)
        inbox.forget({NAME!r})
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
print(step)
"""
    ran = subprocess.run(
        [sys.executable, "-c", script, tmp_path], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stderr
    seen = set()
    for root in (tmp_path / str(step) for step in range(1, int(ran.stdout) + 1)):
        forgotten, left = NAME in forgotten_samples(root), stored(root)
        seen.add((forgotten, *(Path(name).suffix for name in left)))
        if forgotten:
            with pytest.raises(DataError):
                load(root, classes=["dog"])
        else:
            assert [each.tags for each in load(root).photos] == [("dog",)]
        Inbox(root, 0).forget(NAME)
        assert stored(root) == []
    assert {(False, ".jpg", ".json"), (True, ".jpg", ".json"), (True, ".jpg"), (True,)} == seen


def test_a_bundle_keeps_the_digests_of_its_samples(tmp_path: Path) -> None:
    bundle = write_colour_bundle(tmp_path / "model.onnx", samples=[NAME, OTHER_NAME])
    assert read_samples(bundle) == {NAME[:16], OTHER_NAME[:16]}
    write_decision(bundle, {"promoted": True})
    assert read_metadata(bundle).decision == {"promoted": True}
    assert read_samples(bundle) == {NAME[:16], OTHER_NAME[:16]}


def test_which_bundles_learned_from_a_sample(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    for digit, samples in ("1", [NAME]), ("2", [OTHER_NAME]), ("3", None), ("4", [NAME, OTHER_NAME]), ("5", []):
        bundle = write_colour_bundle(tmp_path / f"{digit}.onnx", weights_digest=digit * 64, samples=samples)
        store.publish(bundle)
    assert find_learners(store, [NAME]) == Learners(("1" * 12, "4" * 12), ("3" * 12,))
    assert find_learners(store, [NAME, OTHER_NAME]).models == ("1" * 12, "2" * 12, "4" * 12)
    assert find_learners(store, ["0" * 64]) == Learners((), ("3" * 12,))
    store.path("2" * 12).write_bytes(b"damaged")
    assert find_learners(store, [OTHER_NAME]) == Learners(("4" * 12,), ("2" * 12, "3" * 12))
