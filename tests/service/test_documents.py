"""README and docs: their requests over HTTP, sent to a service."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tagmask.masks import write_mask
from tagmask.segmenter import PRETRAINED
from tests.pages import ROOT, blocks
from tests.service.serving import serving
from training.datasets import load

PHOTO = ROOT / "service/page/samples/cat.jpg"
KEY = "a-key-of-16-characters-or-more"
PAGES = ("README.md", "docs/serving.md", "docs/kserve.md", "docs/label-studio.md", "docs/corrections.md")
SCRIPTS = [
    pytest.param(script, id=f"{page}-{number}")
    for page in PAGES
    for number, script in enumerate(each for each in blocks(page) if "localhost:3000" in each)
]


def run(command: list[str], script: str, folder: Path, **settings: object) -> str:
    """Run `script` in `folder`, where photo.jpg and its corrected.png are, against a service of the pretrained model;
    what it prints.
    """
    shutil.copy(PHOTO, folder / "photo.jpg")
    with Image.open(PHOTO) as photo:
        write_mask(folder / "corrected.png", np.ones(photo.size[::-1], dtype=np.uint8))
    with serving(model=PRETRAINED, inbox=folder / "inbox", min_free_bytes=0, **settings) as server:
        address = str(server.base_url).removeprefix("http://")
        done = subprocess.run(
            [*command, script.replace("localhost:3000", address)],
            cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
@pytest.mark.parametrize("script", SCRIPTS)
def test_curl_is_answered(tmp_path: Path, script: str) -> None:
    keys = {"api_keys": KEY} if "any:KEY" in script else {}
    strict = 'set -euo pipefail\ncurl() { command curl --fail-with-body --silent --show-error "$@"; }\n'
    command = re.sub(r"^.*\b(?:make|tagmask) serve\b.*$", "", script.replace("\\\n", " "), flags=re.MULTILINE)
    run(["bash", "-c"], strict + command.replace("any:KEY", f"any:{KEY}"), tmp_path, **keys)
    with Image.open(PHOTO) as photo:
        for written in tmp_path.glob("*.png"):
            assert Image.open(written).width == photo.width


def test_a_correction_made_of_an_array_is_kept(tmp_path: Path) -> None:
    (program,) = blocks("docs/corrections.md", "python")
    run([sys.executable, "-c"], program, tmp_path)
    (photo,) = load(tmp_path / "inbox", corrections=tmp_path / "inbox").photos
    assert photo.correction
    assert (photo.correction.labels(["cat"]) == 1).sum() == 100 * 100


def test_kserve_program_gets_a_mask(tmp_path: Path) -> None:
    pytest.importorskip("tritonclient.http")
    (program,) = blocks("docs/kserve.md", "python")
    save = """
for name, place in {"classes": "classes.npy", "mask": "mask.npy", "confidence": "confidence.npy"}.items():
    np.save(place, answer.as_numpy(name).astype("U") if name == "classes" else answer.as_numpy(name))
"""
    run([sys.executable, "-c"], program + save, tmp_path)
    mask, classes = np.load(tmp_path / "mask.npy"), np.load(tmp_path / "classes.npy")
    with Image.open(PHOTO) as photo:
        assert mask.shape == np.load(tmp_path / "confidence.npy").shape == photo.size[::-1]
    assert set(classes[np.unique(mask)]) <= {"background", "dog", "person"}
