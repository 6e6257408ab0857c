"""docs/python.md and the README: every program in Python runs, with settings that train in seconds."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.pages import blocks
from tests.service.http.colour_photos import DOG, MASK, encoded, only
from tests.tiny import write_tiny
from tests.training.colour_bundle import write_colour_bundle
from tests.training.conftest import draw_photos

FIRST, TRAINING, EVALUATION, SEGMENTATION, REFUSAL = blocks("docs/python.md", "python")
FAST = 'import functools, tagmask\ntagmask.train = functools.partial(tagmask.train, config="tiny.toml", workers=1)\n'


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder with the files that the programs name."""
    write_colour_bundle(tmp_path / "model.onnx")
    (tmp_path / "photo.jpg").write_bytes(encoded(kind="JPEG"))
    write_tiny(tmp_path / "tiny.toml", rounds=1)
    return tmp_path


def draw_data_set(root: Path) -> None:
    """Photos with tags.csv, true masks, and a split `val`."""
    drawn = draw_photos(root, 6)
    (root / "truth").rename(root / "masks")
    (root / "photos").rename(root / "images")
    rows = [f"{photo.path.name},{' '.join(photo.tags)}\n" for photo in drawn.photos]
    (root / "tags.csv").write_text("".join(["image,tags\n", *rows]))
    (root / "classes.txt").write_text("background\ncat\ndog\n")
    (root / "splits").mkdir()
    (root / "splits/val.txt").write_text("00\n02\n")


def run(program: str, folder: Path) -> str:
    """Run `program` in `folder`; what it prints."""
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_from_photos_to_a_mask(desk: Path):
    draw_data_set(desk / "photos")
    draw_data_set(desk / "val")
    Image.open(desk / "photos/images/00.png").save(desk / "photo.jpg")
    with Image.open(desk / "photo.jpg") as photo:
        size = photo.size
    assert run(f"{FAST}{FIRST}print(mask.shape, mask.dtype)", desk) == f"{size[::-1]} uint8"
    (readme,) = blocks("README.md", "python")
    assert readme.partition("  #")[0].strip() == FIRST.strip()


def test_training_on_several_data_sets_with_progress(desk: Path):
    draw_data_set(desk / "zoo")
    draw_data_set(desk / "farm")
    shown = "print(run.model, run.round > 0, sorted(run.figures), sorted(run.painted), run.left_out)"
    *progress, last = run(f"{FAST}{TRAINING}{shown}", desk).splitlines()
    assert last == "run/model.onnx True ['agreement', 'consistency', 'coverage'] ['cat', 'dog'] ()"
    assert any(line.endswith(": 12 of 12") for line in progress)


def test_evaluation_has_what_is_listed(desk: Path):
    draw_data_set(desk / "photos")
    shown = "print(evaluation.with_tags.photos, *evaluation.without_tags.iou)"
    assert run(EVALUATION + shown, desk) == "2 background cat dog"


def test_a_result_has_what_is_listed(desk: Path):
    shown = "print(result.classes, result.present, result.mask_of('dog').sum(), result.confidence.shape)"
    expected = f"('background', 'cat', 'dog') ('dog',) {(only(DOG) > 0).sum()} {MASK.shape}"
    assert run(SEGMENTATION + shown, desk) == expected


def test_a_refusal_is_shown(desk: Path):
    assert run(REFUSAL, desk) == "unknown_tag cat, dog"
