"""README and docs/data.md: their commands, run one after the other on drawn photos."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from tagmask.cli import main as cli
from tests.pages import lines
from tests.tiny import TINY
from tests.training.conftest import draw_photos

COMMANDS = [
    line for page in ("README.md", "docs/data.md") for line in lines(page) if re.match("tagmask (?!flow)", line)
]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the commands name, as the current one."""
    monkeypatch.chdir(tmp_path)
    draw_listed(tmp_path / "DATA", 6)
    for name in ("ZOO", "FARM"):
        draw_listed(tmp_path / name, 3)
    shutil.copytree(tmp_path / "DATA/masks", tmp_path / "PREDICTIONS")
    shutil.copytree(tmp_path / "DATA/masks", tmp_path / "TRUTH")
    shutil.copy(tmp_path / "DATA/classes.txt", tmp_path)
    (tmp_path / "LIST.csv").write_text("image,tags\nDATA/images/00.png,cat\n")
    with Image.open("DATA/images/00.png") as photo:
        photo.save("photo.jpg")
    return tmp_path


def draw_listed(root: Path, count: int) -> None:
    """Draw photos with a list of their tags, the same for COCO's readers, a split, and true masks."""
    drawn = draw_photos(root, count)
    (root / "truth").rename(root / "masks")
    (root / "photos").rename(root / "images")
    names = [photo.path.name for photo in drawn.photos]
    rows = "".join(f"{name},{' '.join(photo.tags)}\n" for name, photo in zip(names, drawn.photos, strict=True))
    (root / "tags.csv").write_text(f"image,tags\n{rows}")
    (root / "classes.txt").write_text("background\ncat\ndog\n")
    (root / "splits").mkdir()
    (root / "splits/val.txt").write_text("00\n02\n")
    coco = {
        "images": [{"id": number, "file_name": name} for number, name in enumerate(names)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"id": 2 * number + label, "image_id": number, "category_id": label}
            for number, photo in enumerate(drawn.photos)
            for label in photo.labels(drawn.classes)[1:]
        ],
    }
    (root / "annotations").mkdir()
    (root / "annotations/instances_train.json").write_text(json.dumps(coco))


def test_commands_run_in_their_order(desk: Path) -> None:
    assert len(COMMANDS) >= 12
    for line in COMMANDS:
        words = shlex.split(line)[1:]
        if words[0] in ("train", "report"):
            words += ["--workers", "1"]
        if words[0] == "train":
            words += [word for name, value in (TINY | {"rounds": 1}).items() for word in ("--set", f"{name}={value}")]
        done = CliRunner().invoke(cli.app, words)
        assert done.exit_code == 0, f"{line}: {done.output} {done.exception!r}"
    for written in ("RUN/model.onnx", "RUN/report.html", "out/photo.png", "coco/annotations", "pictures", "masks"):
        assert (desk / written).exists()
