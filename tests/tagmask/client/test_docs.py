"""docs/client.md: every program in it runs."""

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tagmask.client import Client
from tests.service.http.colour_photos import DOG, MASK, encoded, only
from tests.service.serving import serving
from tests.training.colour_bundle import write_colour_bundle

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs/client.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


def run(program: str, folder: Path) -> str:
    """Run `program` in `folder`, against a service; what it prints."""
    bundle = write_colour_bundle(folder / "model.onnx")
    (folder / "photos").mkdir()
    for path in (folder / "photo.jpg", folder / "photos/a.jpg", folder / "photos/b.jpg"):
        path.write_bytes(encoded(kind="JPEG"))
    with serving(model=bundle) as server:
        script = program.replace("http://localhost:3000", str(server.base_url))
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", script],
            cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_first_program_gives_a_mask(tmp_path: Path) -> None:
    shown = "print(result.mask.tolist(), result.classes, result.present, result.version)"
    expected = f"{only(DOG).tolist()} ('background', 'cat', 'dog') ('dog',) 0123456789ab"
    assert run(PROGRAMS[0] + shown, tmp_path).strip() == expected


def test_formats_are_written(tmp_path: Path) -> None:
    run(PROGRAMS[1], tmp_path)
    assert Image.open(tmp_path / "picture.png").size == MASK.shape[::-1]
    assert '"annotations"' in (tmp_path / "coco.json").read_text(encoding="utf-8")
    assert Image.open(tmp_path / "mask.png").mode == "P"


def test_a_folder_gets_its_masks(tmp_path: Path) -> None:
    run(PROGRAMS[2], tmp_path)
    for name in ("a", "b"):
        np.testing.assert_array_equal(Image.open(tmp_path / f"photos/{name}.mask.png"), MASK)


def test_a_refusal_is_shown(tmp_path: Path) -> None:
    assert run(PROGRAMS[3], tmp_path).strip() == "unknown_tag cat, dog"
    assert len(PROGRAMS) == 4, "a new program needs a test"


def test_the_table_has_every_call_with_its_defaults() -> None:
    calls = set(re.findall(r"^\| `(\w+\(.*?\))` \|", TEXT, re.MULTILINE))
    methods = {name: call for name, call in vars(Client).items() if not name.startswith("_") and name != "close"}
    assert calls == {rendered(name, call) for name, call in {"Client": Client, **methods}.items()}


def rendered(name: str, call: Callable[..., object]) -> str:
    """A call as the docs write it."""
    parameters = []
    for each in inspect.signature(call).parameters.values():
        value = f"{each.default:g}" if isinstance(each.default, float) else repr(each.default).replace("'", '"')
        parameters.append(each.name if each.default is each.empty else f"{each.name}={value}")
    return f"{name}({', '.join(parameters)})".replace("(self, ", "(").replace("(self)", "()")
