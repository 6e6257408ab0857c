import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tagmask.errors import DataError
from training.datasets import load

Paint = Callable[..., Path]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def sha(first: str) -> str:
    return first * 32


def put(root: Path, first: str, tags: object, image: str | None = None) -> Path:
    """A sample whose photo holds no picture, in folder `first`."""
    about = root / first / f"{sha(first)}.json"
    about.parent.mkdir(exist_ok=True)
    about.with_suffix(".jpg").write_bytes(b"")
    about.write_text(json.dumps({"image": image or f"{sha(first)}.jpg", "tags": tags, "width": 3}))
    return about


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    put(tmp_path, "0a", ["dog", "cat"])
    put(tmp_path, "f3", [" owl ", "cat", "", "cat"])
    return tmp_path


def faults_of(root: Path, **options: Any) -> list[tuple[str, str]]:
    return [(fault.where, fault.why) for fault in load(root, **options).faults]


def test_each_json_is_a_sample(inbox: Path) -> None:
    data = load(inbox)
    assert [(photo.id, photo.path, photo.tags) for photo in data.photos] == [
        (f"0a/{sha('0a')}", inbox / "0a" / f"{sha('0a')}.jpg", ("cat", "dog")),
        (f"f3/{sha('f3')}", inbox / "f3" / f"{sha('f3')}.jpg", ("cat", "owl")),
    ]
    assert data.classes == ("cat", "dog", "owl")
    assert data.faults == ()


def test_what_the_service_is_writing_is_no_fault(inbox: Path) -> None:
    for name in (".lock", "0a/.lock", "0a/.part"):
        (inbox / name).write_bytes(b"{")
    assert faults_of(inbox) == []


def test_what_belongs_to_no_sample_is_told(inbox: Path, paint: Paint) -> None:
    (inbox / "0a" / f"{sha('0b')}.jpg").write_bytes(b"")
    (inbox / "0a" / "deep.json").mkdir()
    (inbox / "tags.csv").write_text("image,tags\n0a/deep.jpg,eel\n")
    paint(inbox / "cat" / "1.png")
    faults = dict(faults_of(inbox))
    assert sorted(faults) == [f"0a/{sha('0b')}.jpg", "0a/deep.json", "cat", "tags.csv"]
    assert faults[f"0a/{sha('0b')}.jpg"].startswith(f"its tags are missing, as there is no {sha('0b')}.json")
    assert "is not a regular file" in faults["0a/deep.json"]
    assert load(inbox).classes == ("cat", "dog", "owl")


def test_an_absent_photo_is_told(inbox: Path) -> None:
    (inbox / "0a" / f"{sha('0a')}.jpg").unlink()
    ((where, why),) = faults_of(inbox)
    assert where == f"0a/{sha('0a')}.json"
    assert why.startswith(f"photo '{sha('0a')}.jpg' not found beside it")
    assert len(load(inbox).photos) == 1


@pytest.mark.parametrize(
    ("image", "why"),
    [
        ("../f3/" + sha("f3") + ".jpg", "leads outside"),
        ("/etc/passwd", "leads outside"),
        (sha("f3") + ".jpg", "is not named like its JSON"),
        ("./" + sha("0a") + ".jpg", "is not named like its JSON"),
        (sha("0a") + ".json", "is not named like its JSON"),
        (sha("0a") + "." + "g" * 300, "too long"),
        (sha("0a") + ".jpg\0", "control characters"),
    ],
)
def test_a_sample_cannot_name_another_file(inbox: Path, image: str, why: str) -> None:
    put(inbox, "0a", ["dog"], image)
    ((where, reason),) = faults_of(inbox)
    assert where == f"0a/{sha('0a')}.json"
    assert why in reason
    assert load(inbox).classes == ("cat", "owl")


@settings(max_examples=80, deadline=None)
@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
@example(b"[" * 100_000)
@example(b"9" * 5000)
@example(b'{"image": "a.jpg", "tags": "cat"}')
@example(b'{"image": "a.jpg", "tags": ["cat", 1]}')
def test_any_broken_json_is_one_fault(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        put(root, "f3", ["owl"])
        put(root, "0a", ["dog"]).write_bytes(content)
        data = load(root)
        assert [photo.tags for photo in data.photos] == [("owl",)]
        assert [fault.where for fault in data.faults] == [f"0a/{sha('0a')}.json"]


def test_splits_and_masks_beside_the_samples(inbox: Path, paint_mask: Paint) -> None:
    (inbox / "splits").mkdir()
    (inbox / "splits" / "val.txt").write_text(f"f3/{sha('f3')}\n")
    (inbox / "classes.txt").write_text("background\nowl\n")
    mask = paint_mask(inbox / "masks" / "f3" / f"{sha('f3')}.png")
    data = load(inbox, split="val")
    assert [(photo.id, photo.mask) for photo in data.photos] == [(f"f3/{sha('f3')}", mask)]
    assert data.faults == ()
    with pytest.raises(DataError, match="no split 'train'; choose one of val"):
        load(inbox, split="train")


def test_class_folders_named_by_hex_digits_stay_class_folders(tmp_path: Path, paint: Paint) -> None:
    """Also with photos that are named by their content, and notes beside them."""
    for name in ("de", "fa"):
        paint(tmp_path / name / f"{sha(name)}.png")
        paint(tmp_path / name / "2.png")
    (tmp_path / "fa" / "notes.json").write_text("{}")
    (tmp_path / "fa" / f"{sha('de')}.json").write_text("{}")
    assert load(tmp_path).photos_per_class() == {"de": 2, "fa": 2}
