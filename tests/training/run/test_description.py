import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import training.run.train
from tagmask.corrections import Correction
from tagmask.errors import Fault, RunError
from tagmask.masks import VOID
from tests.tiny import TINY
from tests.training.conftest import Tagged
from training.config import load_config
from training.datasets.photos import Photo, TaggedPhotos
from training.run.description import read_photos, write_photos
from training.run.layout import Layout


def test_a_run_knows_its_photos(tmp_path: Path, tagged: Tagged, monkeypatch: pytest.MonkeyPatch):
    data = tagged(3)
    correction = Correction.of(np.array([[0, 1], [VOID, 1]], dtype=np.uint8), ("background", "cat"), ("cat",))
    corrected = replace(data.photos[1], correction=correction)
    photos = (data.photos[0], corrected, replace(data.photos[2], tags=()))
    data = replace(data, photos=photos, faults=(Fault("03.png", "not a photo"),))

    def stop(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(training.run.train, "execute", stop)
    with pytest.raises(KeyboardInterrupt):
        training.run.train.train(data, tmp_path / "run", load_config(overrides=TINY), device="cpu")
    assert read_photos(Layout(tmp_path / "run")) == data


def test_photos_are_found_from_wherever_one_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    photo = Photo("a", Path("a.jpg"), ("cat",), Path("a.png"))
    write_photos(Layout(tmp_path), TaggedPhotos(Path(), ("cat",), (photo,)))
    monkeypatch.chdir("/")
    found = read_photos(Layout(tmp_path))
    assert found is not None
    assert (found.photos[0].path, found.photos[0].mask) == (tmp_path / "a.jpg", tmp_path / "a.png")


def test_folders_may_have_any_name(tmp_path: Path):
    root = tmp_path / os.fsdecode(b'\xff \n"')
    data = TaggedPhotos(root, ("cat",), (Photo("a", root / "a.jpg", ("cat",)),))
    write_photos(Layout(tmp_path), data)
    assert read_photos(Layout(tmp_path)) == data


def test_a_run_of_before_knows_none(tmp_path: Path):
    assert read_photos(Layout(tmp_path)) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"root": 3}', "\xff"])
def test_a_damaged_note_is_told(tmp_path: Path, text: str):
    Layout(tmp_path).photos.write_bytes(text.encode("latin-1"))
    with pytest.raises(RunError, match=r"photos\.json: damaged or not readable; remove it"):
        read_photos(Layout(tmp_path))
