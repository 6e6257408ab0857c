"""docs/data.md: its examples hold what it says."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from training.datasets import Format, load
from training.datasets.writing import WRITERS

Paint = Callable[..., Path]

TEXT = (Path(__file__).parents[3] / "docs" / "data.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### `([\w-]+)`: [^\n]+\n(.*?)(?=^##)", TEXT, re.DOTALL | re.MULTILINE))
PHOTOS = re.compile(r"```text\n(.*?)```", re.DOTALL)
FILES = re.compile(r"`([^`\s]+)`:\n\n```\w+\n(.*?)```", re.DOTALL)


def test_every_format_has_its_section_in_the_order_in_which_they_are_tried():
    assert tuple(SECTIONS) == get_args(Format)
    assert re.findall(r"^\| \[`([\w-]+)`\]\(#", TEXT, re.MULTILINE) == list(SECTIONS)
    assert re.findall(r"^\| `([a-z][\w-]+)` \|", TEXT, re.MULTILINE) == list(WRITERS)


@pytest.mark.parametrize("form", [form for form in get_args(Format) if form != "samples"])
def test_examples_are_true(tmp_path: Path, paint: Paint, form: Format):
    photos = PHOTOS.findall(SECTIONS[form])[0].split()
    files = FILES.findall(SECTIONS[form])
    alternatives = [[each] for each in files] if form == "table" else [files]
    for number, written in enumerate(alternatives):
        root = tmp_path / str(number)
        for seed, photo in enumerate(photos):
            paint(root / photo, seed=seed)
        for name, content in written:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(content)
        data = load(root)
        assert data == load(root, format=form)
        tags = {photo.path.relative_to(root).as_posix(): photo.tags for photo in data.photos}
        assert tags == dict(zip(photos, (("cat",), ("dog",) if form == "folders" else ("cat", "dog")), strict=True))
        assert data.faults == ()
