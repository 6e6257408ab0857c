"""The examples run, with settings that train in seconds."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import tagmask
from examples.demo import drawing
from service.models import PRETRAINED
from tests.pages import ROOT
from tests.service.serving import serving
from tests.tiny import write_tiny

PHOTO = ROOT / "service/page/samples/cat.jpg"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Settings that train in seconds."""
    return write_tiny(tmp_path / "tiny.toml", rounds=1)


def run(*arguments: object) -> str:
    """Run an example; what it prints."""
    command = [sys.executable, "-W", "error", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": ""}, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_train_folder(tmp_path: Path, config: Path) -> None:
    drawing.make_demo_photos(tmp_path / "photos", photos=16, size=64)
    out = tmp_path / "run"
    options = ["--out", out, "--val", "val", "--config", config]
    printed = run("examples/train_folder.py", tmp_path / "photos", *options)
    assert "superpixels: 12 of 12\n" in printed
    assert "on 4 photos" in printed
    assert (out / "model.onnx").is_file()
    assert Image.open(out / "0000.png").size == (64, 64)


def test_client(tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(PHOTO.read_bytes())
    with serving(model=PRETRAINED) as server:
        options = ["--url", server.base_url, "--tags"]
        assert "photo.jpg: cat " in run("examples/client.py", photo, *options, "cat")
        assert "No such file" in run("examples/client.py", tmp_path / "none.jpg", *options, "cat")
        assert "does not know 'unicorn'" in run("examples/client.py", photo, *options, "unicorn")
    with Image.open(photo) as picture:
        for name in ("photo.mask.png", "photo.overlay.png"):
            assert Image.open(tmp_path / name).size == picture.size


def test_notebook(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cells run one after the other; its stored outputs are those of all cells."""
    cells = json.loads((ROOT / "examples/notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    programs = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in programs] == list(range(1, len(programs) + 1))
    monkeypatch.setattr(tagmask, "train", functools.partial(tagmask.train, config=config, workers=1))
    names: dict[str, Any] = {}
    for cell in programs:
        exec("".join(cell["source"]).replace("photos=120, size=160", "photos=16, size=64"), names)
    assert names["run"].model.is_file()
    assert names["evaluation"].without_tags.photos == 4
