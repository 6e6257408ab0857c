"""docs/python.md: every program in it runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pages import blocks
from tests.service.http.colour_photos import DOG, MASK, encoded, only
from tests.tiny import TINY
from tests.training.colour_bundle import write_colour_bundle
from tests.training.conftest import draw_photos

FIRST, SEGMENTATION, TRAINING, REFUSAL = blocks("docs/python.md", "python")


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder with the files that the programs name."""
    write_colour_bundle(tmp_path / "model.onnx")
    (tmp_path / "photo.jpg").write_bytes(encoded(kind="JPEG"))
    return tmp_path


def run(program: str, folder: Path) -> str:
    """Run `program` in `folder`; what it prints."""
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_first_program_gives_a_mask(desk: Path):
    assert run(FIRST + "print(mask.tolist())", desk) == f"{only(DOG).tolist()}"


def test_a_result_has_what_is_listed(desk: Path):
    shown = "print(result.classes, result.present, result.mask_of('dog').sum(), result.confidence.shape)"
    expected = f"('background', 'cat', 'dog') ('dog',) {(only(DOG) > 0).sum()} {MASK.shape}"
    assert run(SEGMENTATION + shown, desk) == expected


def test_a_run_is_trained_and_evaluated(desk: Path):
    photos = desk / "photos"
    draw_photos(photos, 6)
    (photos / "photos").rename(photos / "images")
    (photos / "truth").rename(photos / "masks")
    tags = [("cat", "dog", "cat dog")[index % 3] for index in range(6)]
    rows = [f"{index:02}.png,{tag}\n" for index, tag in enumerate(tags)]
    (photos / "tags.csv").write_text("image,tags\n" + "".join(rows))
    (photos / "classes.txt").write_text("background\ncat\ndog\n")
    (photos / "splits").mkdir()
    (photos / "splits" / "val.txt").write_text("00\n05\n")
    (desk / "settings.toml").write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in TINY.items()))
    shown = run(TRAINING + "print(run.round, evaluation.with_tags.photos, sorted(evaluation.with_tags.iou))", desk)
    assert shown.splitlines()[-1][1:] == " 2 ['background', 'cat', 'dog']"
    assert "segmenting 2 2" in shown


def test_a_refusal_is_shown(desk: Path):
    assert run(REFUSAL, desk) == "unknown_tag cat, dog"
