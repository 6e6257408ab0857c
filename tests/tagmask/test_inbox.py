import errno
import json
import os
import subprocess
import sys
import tempfile
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from tagmask.classes import MAX_LENGTH, class_key
from tagmask.corrections import Correction, decode_correction
from tagmask.errors import DataError, Internal, StartError, StorageFull, Unprocessable, UnsupportedType
from tagmask.inbox import Annotation, Inbox, Sample, check_tags
from tagmask.masks import VOID
from tagmask.photos import MEDIA_TYPES, decode, read_photo
from tests.tagmask.test_photos import TURNED_HEIC
from training.datasets import load
from training.datasets.check import check

ROOT = Path(__file__).parents[2]
KINDS = ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "PPM"]
SIZE = (8, 12)


def photo(kind: str = "JPEG", red: int = 200) -> bytes:
    file = BytesIO()
    Image.new("RGB", (SIZE[1], SIZE[0]), (red, 40, 40)).save(file, format=kind)
    return file.getvalue()


def visible(root: Path) -> list[str]:
    return sorted(path.name for path in root.rglob("*") if path.is_file() and not path.name.startswith("."))


def send(root: Path, data: bytes, *tags: str, min_free_bytes: int = 0) -> Sample:
    return Inbox(root, min_free_bytes).add(data, tags, "image/jpeg", SIZE)


@pytest.mark.parametrize("kind", KINDS)
def test_training_reads_every_type_that_is_taken(tmp_path: Path, kind: str) -> None:
    data = photo(kind)
    sample = Inbox(tmp_path, 0).add(data, ["dog", "axolotl"], Image.MIME[kind], SIZE, source="request-1")
    assert sample == Sample(sample.id, ("axolotl", "dog"), created=True)
    read = check(load(tmp_path), workers=1)
    (kept,) = read.data.photos
    assert (kept.id, kept.tags) == (f"{sample.id[:2]}/{sample.id}", sample.tags)
    assert kept.path.read_bytes() == data
    assert read.data.faults == ()
    record = json.loads(kept.path.with_suffix(".json").read_text())
    assert (record["width"], record["height"], record["source"]) == (SIZE[1], SIZE[0], "request-1")
    assert (record["sha256"], record["media_type"]) == (sample.id, Image.MIME[kind])


def test_training_reads_what_phones_take(tmp_path: Path) -> None:
    taken = decode(TURNED_HEIC, long_side=64, max_pixels=10_000)
    Inbox(tmp_path, 0).add(TURNED_HEIC, ["dog"], taken.media_type, taken.size)
    read = check(load(tmp_path), workers=1)
    assert read.data.faults == ()
    np.testing.assert_array_equal(read_photo(read.data.photos[0].path), taken.pixels)


def test_every_type_that_the_service_reads_is_taken() -> None:
    assert {Image.MIME[kind] for kind in KINDS} | {"image/heic", "image/heif"} == set(MEDIA_TYPES)


def test_a_type_that_training_cannot_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedType, match="image/jxl is not supported; convert the photo to one of image/j"):
        Inbox(tmp_path, 0).add(b"jxl", ["dog"], "image/jxl", SIZE)
    assert visible(tmp_path) == []


def test_the_same_photo_is_one_sample_with_the_tags_of_both(tmp_path: Path) -> None:
    first, again, other = (send(tmp_path, photo(), *tags) for tags in (("dog",), ("dog",), ("cat", "cat")))
    assert (first.created, again.created, other.created) == (True, False, False)
    assert first.id == again.id == other.id
    assert other.tags == ("cat", "dog")
    assert send(tmp_path, photo(), "dog").tags == ("cat", "dog")
    assert send(tmp_path, photo(red=90), "dog").created
    assert sorted(each.tags for each in load(tmp_path).photos) == [("cat", "dog"), ("dog",)]


def test_one_class_in_several_spellings_is_one_tag(tmp_path: Path) -> None:
    assert send(tmp_path, photo(), "Polar bear", "polar-bear").tags == ("Polar_bear",)
    assert send(tmp_path, photo(), "POLAR_BEAR", "ve\u0301lo").tags == ("Polar_bear", "v\xe9lo")
    assert check_tags("cat") == ("cat",)


def test_what_others_noted_in_a_sample_is_kept(tmp_path: Path) -> None:
    send(tmp_path, photo(), "dog")
    (about,) = tmp_path.rglob("*.json")
    record = json.loads(about.read_text())
    about.write_text(json.dumps({**record, "reviewed": True}))
    send(tmp_path, photo(), "cat")
    assert json.loads(about.read_text()) == {**record, "reviewed": True, "tags": ["cat", "dog"]}


@pytest.mark.parametrize("damage", ["photo gone", "json gone", "json broken"])
def test_a_damaged_sample_is_whole_after_it_is_sent_again(tmp_path: Path, damage: str) -> None:
    send(tmp_path, photo(), "dog")
    (kept,) = load(tmp_path).photos
    about = kept.path.with_suffix(".json")
    if damage == "json broken":
        about.write_text('{"image":')
    else:
        (kept.path if damage == "photo gone" else about).unlink()
    assert send(tmp_path, photo(), "cat").created == (damage != "photo gone")
    (again,) = load(tmp_path).photos
    assert again.tags == (("cat", "dog") if damage == "photo gone" else ("cat",))
    assert again.path.read_bytes() == photo()


def test_threads_and_processes_that_send_one_photo(tmp_path: Path) -> None:
    """Each of three processes sends from four threads, each time with another tag."""
    (tmp_path / "photo").write_bytes(photo())
    script = """
import sys, threading
from pathlib import Path
from types import SimpleNamespace
from tagmask.inbox import Inbox
here, mine = Path(sys.argv[1]), sys.argv[2]
box, data, created = Inbox(here / "inbox", 0), (here / "photo").read_bytes(), []
def send(thread):
    for turn in range(5):
        created.append(box.add(data, [f"{mine}-{thread}-{turn}"], "image/jpeg", (8, 12)).created)
threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
sys.stdin.readline()
for each in threads: each.start()
for each in threads: each.join()
print(len(created), sum(created))
"""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script, tmp_path, str(number)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    for process in started:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    counts = [[int(each) for each in process.communicate(timeout=60)[0].split()] for process in started]
    assert [sum(column) for column in zip(*counts, strict=True)] == [60, 1]
    (kept,) = load(tmp_path / "inbox").photos
    assert kept.tags == tuple(sorted(f"{a}-{b}-{c}" for a in range(3) for b in range(4) for c in range(5)))


def test_a_kill_before_any_step_leaves_a_sample_or_none(tmp_path: Path) -> None:
    """A process is killed before the first, second, … operation on a file, until one comes to its end."""
    (tmp_path / "photo").write_bytes(photo())
    script = """
import itertools, os, sys
from pathlib import Path
from tagmask.inbox import Inbox
from tests.tagmask.killed import die_before
here, data = Path(sys.argv[1]), Path(sys.argv[1], "photo").read_bytes()
for step in itertools.count(1):
    child = os.fork()
    if not child:
        die_before(step)
        Inbox(here / str(step), 0).add(data, ["dog"], "image/jpeg", (8, 12))
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
print(step)
"""
    ran = subprocess.run(
        [sys.executable, "-c", script, tmp_path], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    steps = int(ran.stdout)
    seen = set()
    for root in (tmp_path / str(step) for step in range(1, steps + 1)):
        left = visible(root)
        seen.add((*(Path(name).suffix for name in left), *(path.name for path in root.rglob(".part"))))
        if len(left) == 2:
            assert [each.tags for each in load(root).photos] == [("dog",)]
        else:
            with pytest.raises(DataError):
                load(root, classes=["dog"])
        assert send(root, photo(), "cat").created == (len(left) < 2)
        (kept,) = load(root).photos
        assert kept.path.read_bytes() == photo()
        assert visible(root) == [kept.path.name, kept.path.with_suffix(".json").name]
        assert not list(root.rglob(".part"))
    assert seen == {(), (".part",), (".jpg",), (".jpg", ".part"), (".jpg", ".json")}


def test_a_photo_itself_takes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = len(photo()) + 1000  # and its record takes less than 1,000 bytes, but more than none
    monkeypatch.setattr("tagmask.inbox.folder.shutil.disk_usage", lambda _: SimpleNamespace(free=free))
    with pytest.raises(StorageFull):
        send(tmp_path, photo(), "dog", min_free_bytes=1000)
    assert send(tmp_path, photo(), "dog", min_free_bytes=1).created


def test_room_that_must_stay_free(tmp_path: Path) -> None:
    with pytest.raises(StorageFull, match="must stay free; send the photo again when the operator") as refused:
        send(tmp_path, photo(), "dog", min_free_bytes=10**18)
    assert refused.value.limit == 10**18
    assert visible(tmp_path) == []
    send(tmp_path, photo(), "dog")
    assert not send(tmp_path, photo(), "dog", min_free_bytes=10**18).created  # takes no room
    with pytest.raises(StorageFull):
        send(tmp_path, photo(), "cat", min_free_bytes=10**18)
    assert [each.tags for each in load(tmp_path).photos] == [("dog",)]


@pytest.mark.parametrize("writes", [0, 1])
@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, StorageFull), (errno.EDQUOT, StorageFull), (errno.EROFS, Internal), (errno.EIO, Internal)],
)
def test_a_failing_disk_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception], writes: int
) -> None:
    left = [None] * writes

    def failing(handle: int) -> None:
        if not left:
            raise OSError(number, os.strerror(number), str(tmp_path))
        left.pop()

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        with pytest.raises(kind, match=r"(send the photo|try) again") as refused:
            send(tmp_path, photo(), "dog")
    assert str(tmp_path) not in str(refused.value)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [".lock"]
    assert send(tmp_path, photo(), "dog").created


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", tmp_path / "file" / "inbox"):
        with pytest.raises(StartError, match=r"cannot be created \(.*\); name another folder"):
            Inbox(root, 0)
    sample = send(tmp_path / "other", photo(), "dog")
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / sample.id[:2]).write_text("")
    with pytest.raises(Internal, match="try again later, or contact the operator") as refused:
        send(tmp_path / "inbox", photo(), "dog")
    assert refused.value.code == "inbox_unwritable"
    assert str(tmp_path) not in refused.value.message


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=6) | st.text(st.characters(exclude_categories=("C", "Z")), max_size=70), max_size=4))
@example(["Background", "..", "a/b", "-", "猫", '"', "'"])
@example(["c\u2028t"])
@example(["\ud800"])
@example(["a" * MAX_LENGTH])
@example([])
def test_training_learns_every_tag_that_is_taken(tags: list[str]) -> None:
    try:
        taken = check_tags(tags)
    except Unprocessable:
        return
    assume(taken != ("background",))
    assert sorted(map(class_key, taken)) == sorted({class_key(tag.strip()) for tag in tags})
    with tempfile.TemporaryDirectory() as folder:
        send(Path(folder), photo(), *tags)
        data = load(Path(folder))
        assert data.classes == taken
        assert data.photos[0].tags == taken
        assert data.digest()


@pytest.mark.parametrize(
    ("tag", "why"),
    [
        ("", "tag '' is empty"),
        ("c\u2028t", "contains white space"),
        ("cat\ndog", "contains white space"),
        ("c\x07t", r"tag 'c\x07t' contains an unprintable character"),
        ("\ud800", r"tag '\ud800' contains an unprintable character"),
        ("cat,dog", "tag 'cat,dog' contains ',', which separates tags"),
        ("cat|dog", "contains '|'"),
        ('["cat"', "begins or ends with a bracket"),
        ("Background", "background says that the photo shows none of the classes; send it alone"),
        ("a" * 65, "has 65 characters, more than 64"),
    ],
)
def test_a_tag_that_no_model_learns_is_named_with_its_rule(tmp_path: Path, tag: str, why: str) -> None:
    with pytest.raises(Unprocessable) as refused:
        send(tmp_path, photo(), "dog", tag)
    assert (refused.value.code, refused.value.field) == ("bad_tags", "tags")
    assert refused.value.message.startswith("tags: ")
    assert refused.value.message.isprintable()
    assert why in refused.value.message
    assert refused.value.limit == (64 if len(tag) > 64 else None)
    assert visible(tmp_path) == []


def test_a_sample_needs_a_tag() -> None:
    with pytest.raises(
        Unprocessable, match="tags: missing; name at least one class in the photo, or send background"
    ) as refused:
        check_tags([])
    assert refused.value.field == "tags"


def test_a_photo_that_shows_nothing_is_sent_as_background(tmp_path: Path) -> None:
    send(tmp_path, photo(red=90), "dog")
    assert send(tmp_path, photo(), " Background", "background").tags == ("background",)
    assert [each.tags for each in load(tmp_path).photos if each.tags != ("dog",)] == [()]
    assert send(tmp_path, photo(), "cat").tags == ("cat",)
    assert send(tmp_path, photo(), "background").tags == ("cat",)
    assert sorted(each.tags for each in load(tmp_path).photos) == [("cat",), ("dog",)]


def test_tags_that_are_taken_back_leave_a_photo_that_was_sent_as_background(tmp_path: Path) -> None:
    inbox, one = Inbox(tmp_path, min_free_bytes=0), Annotation(1, task=1)
    send(tmp_path, photo(), "background")
    send(tmp_path, photo(red=90), "dog")
    stored = inbox.annotate(one, photo(), ["cat"], "image/jpeg", (6, 8))
    assert stored
    assert stored.tags == ("cat",)
    inbox.delete(None, {1})
    assert sorted(each.tags for each in load(tmp_path).photos) == [(), ("dog",)]


def test_tags_of_a_sample_do_not_grow_without_end(tmp_path: Path) -> None:
    send(tmp_path, photo(), *(f"t{number}" for number in range(250)))
    send(tmp_path, photo(), "a", "b", "c", "d")
    with pytest.raises(Unprocessable, match="would have 255 tags, more than 254; send fewer"):
        send(tmp_path, photo(), "e")
    assert len(load(tmp_path).photos[0].tags) == 254


NAMES = ("background", "dog", "cat")
DOG, CAT = (Correction.of(np.full(SIZE, value, dtype=np.uint8), NAMES) for value in (1, 2))
NOTHING_SAID = Correction.of(np.full(SIZE, VOID, dtype=np.uint8), NAMES)


def correct(root: Path, correction: Correction | None = None) -> Sample:
    return Inbox(root, 0).add(photo(), ["dog", "cat"], "image/jpeg", SIZE, correction=correction)


def annotate(root: Path, annotation: Annotation, correction: Correction | None = None) -> Sample:
    stored = Inbox(root, 0).annotate(annotation, photo(), ["dog"], "image/jpeg", SIZE, correction=correction)
    assert stored
    return stored


def said(root: Path) -> Correction | None:
    """What training reads of the only sample."""
    (sample,) = load(root, corrections=root if list(root.glob("*/*.correction.png")) else None).photos
    return sample.correction


def test_the_newest_correction_is_the_one_of_a_sample(tmp_path: Path) -> None:
    assert not correct(tmp_path).corrected
    assert said(tmp_path) is None
    for correction in (DOG, CAT):
        assert correct(tmp_path, correction).corrected
        assert said(tmp_path) == correction
    assert correct(tmp_path).corrected
    assert said(tmp_path) == CAT
    assert not correct(tmp_path, NOTHING_SAID).corrected
    assert said(tmp_path) is None
    assert len(visible(tmp_path)) == 2


def test_a_correction_goes_with_the_annotation_that_gave_it(tmp_path: Path) -> None:
    one, other = Annotation(1, task=1), Annotation(2, task=1)
    assert annotate(tmp_path, one, DOG).corrected
    assert annotate(tmp_path, other).corrected
    assert said(tmp_path) == DOG
    assert not annotate(tmp_path, one).corrected
    annotate(tmp_path, one, DOG)
    assert [sample.corrected for sample in Inbox(tmp_path, 0).delete(None, {2}) or ()] == [True]
    assert [sample.corrected for sample in Inbox(tmp_path, 0).clear(one) or ()] == [False]
    correct(tmp_path, CAT)
    Inbox(tmp_path, 0).delete(None, {1})
    assert said(tmp_path) == CAT


def test_a_correction_is_forgotten_with_its_photo(tmp_path: Path) -> None:
    Inbox(tmp_path, 0).forget(correct(tmp_path, DOG).id)
    assert [path.parent.name for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"] == [
        ".forgotten"
    ]


def test_a_kill_before_any_step_leaves_the_old_correction_or_the_new_one(tmp_path: Path) -> None:
    correct(tmp_path, DOG)
    script = """
import itertools, os, sys
from pathlib import Path
from tests.tagmask.killed import die_before
from tests.tagmask.test_inbox import CAT, correct
for step in itertools.count(1):
    child = os.fork()
    if not child:
        die_before(step)
        correct(Path(sys.argv[1]), CAT)
        os._exit(0)
    ended = os.waitpid(child, 0)[1] == 0
    print(Path(sys.argv[1]).joinpath(sys.argv[2]).read_bytes().hex())
    if ended:
        break
"""
    name = next(tmp_path.glob("*/*.correction.png")).relative_to(tmp_path)
    ran = subprocess.run(
        [sys.executable, "-c", script, tmp_path, name], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    left = [decode_correction(bytes.fromhex(line)) for line in ran.stdout.split()]
    assert (left[0], left[-1]) == (DOG, CAT)
    assert left == sorted(left, key=[DOG, CAT].index)
    assert not list(tmp_path.rglob(".part"))
