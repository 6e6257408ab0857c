"""`tagmask train` on every layout, for as few steps as there can be."""

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import pytest
from PIL import Image

from tagmask.cli import main as cli
from tagmask.masks import read_mask
from tests.tiny import write_tiny
from tests.training.conftest import Command, draw
from tests.training.datasets import layouts
from tests.training.run.test_train import shorten
from training.datasets import Format, load
from training.run.description import read_description
from training.run.layout import Layout
from training.run.ledger import Ledger

TAGS = {f"{index}.png": (("cat",), ("dog",), ("cat", "dog"), ())[index] for index in range(4)}
NOTHING = ("voc", "table", "label-studio", "yolo")  # layouts that can say that the last photo shows nothing
ALONE = {f"{index}.png": (("cat",), ("dog",))[index % 2] for index in range(4)}


@pytest.fixture(scope="module", autouse=True)
def _short() -> Iterator[None]:
    patch = shorten()
    yield
    patch.undo()


def write(root: Path, form: Format) -> Path:
    """A data set of four photos with discs and squares."""
    tags = ALONE if form == "folders" else TAGS

    def paint(path: Path, seed: int) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw(tags[path.name], (64, 48), seed)[0]).save(path)
        return path

    return layouts.write(root, form, tags, paint)


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Layout]:
    """`tagmask train` with tiny settings; returns the run."""
    settings, out = write_tiny(tmp_path / "tiny.toml"), tmp_path / "run"

    def run(*arguments: object) -> Layout:
        short = ["--out", out, "--config", settings, "--rounds", 1, "--workers", 1, "--device", "cpu"]
        monkeypatch.setattr(sys, "argv", ["tagmask", "train", *map(str, [*arguments, *short])])
        monkeypatch.setenv("PYTHONSAFEPATH", "1")  # as `main` does, but undone after the test
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 0
        assert [line["stage"] for line in Ledger(Layout(out).ledger)][-1] == "export"
        return Layout(out)

    return run


@pytest.mark.parametrize("form", get_args(Format))
def test_every_layout_trains(tmp_path: Path, train: Callable[..., Layout], form: Format):
    layout = train(write(tmp_path / "one", form), "--format", form)
    photos = 4 if form in ("folders", *NOTHING) else 3
    assert len(list((layout.root / "superpixels").rglob("*.png"))) == photos


def test_a_folder_of_photos_that_show_nothing_trains(tmp_path: Path, train: Callable[..., Layout], command: Command):
    data = write(tmp_path / "one", "folders")
    layout = train(data, "--none", "cat")
    assert read_description(layout).classes == ("dog",)
    assert [len(photo.tags) for photo in load(data, none=["cat"]).photos] == [0, 0, 1, 1]
    for number in (0, 2):
        assert not read_mask(layout.root / f"round-1/labels/cat/{number}.png").any()
    seen, report = tmp_path / "seen", tmp_path / "report.html"
    for name, out in (("look", seen), ("report", report)):
        assert command(name, layout.root, data, "--none", "cat", "--out", out)[0] == 0
    assert len(list(seen.rglob("*.png"))) == 4
    assert command("look", layout.root, "--out", tmp_path / "recorded")[0] == 0
    names = [sorted(path.relative_to(out) for path in out.rglob("*.png")) for out in (seen, tmp_path / "recorded")]
    assert names[0] == names[1]
    status, _, errors = command("look", layout.root, write(tmp_path / "other", "coco"), "--out", tmp_path / "none")
    assert (status, "holds no photo of the run" in errors, (tmp_path / "none").exists()) == (2, True, False)
    before = (data / "dog" / "1.png").read_bytes()
    status, _, errors = command("look", layout.root, data, "--none", "cat", "--out", data)
    assert (status, "would replace an input photo" in errors) == (2, True)
    assert (data / "dog" / "1.png").read_bytes() == before
    assert "4 photos" in re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", report.read_text()))


def test_several_data_sets_train_as_one(tmp_path: Path, train: Callable[..., Layout]):
    layout = train(write(tmp_path / "zoo", "coco"), write(tmp_path / "farm", "label-studio"))
    assert (layout.root / "superpixels" / "zoo" / "train" / "0.png").is_file()
    assert (layout.root / "superpixels" / "farm" / "0.png").is_file()
    assert len(list((layout.root / "superpixels").rglob("*.png"))) == 7
