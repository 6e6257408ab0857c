"""`tagmask data suggest`: the photos of a run to correct first."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tagmask import files
from tagmask.corrections import Correction
from tests.training.colour_bundle import write_colour_bundle
from tests.training.conftest import Command
from tests.training.report.conftest import Finished
from tests.training.report.test_report import Page
from training.run.description import write_photos
from training.run.ledger import Ledger
from training.stages import superpixels
from training.stages.localization import features_file


@pytest.fixture
def ready(run: Finished) -> Finished:
    """A run with its bundle, in which the mask of the dog, photo 01, is poor."""
    for number, photo in enumerate(run.data.photos):
        features = np.full((superpixels.read(photo, run.layout.root).max() + 1, 4), number % 2, dtype=np.float16)
        files.write_array(features_file(photo, run.layout.root, 2), features)
    mask = np.zeros((64, 80), dtype=np.uint8)
    mask[:4, :4] = 2
    run.paint(1, 2, mask)
    write_colour_bundle(run.layout.model)
    Ledger(run.layout.ledger).add(2, "export", file="model.onnx", weights_digest="ab" * 32)
    write_photos(run.layout, run.data)
    return run


def test_poor_masks_come_first(ready: Finished, command: Command):
    status, output, _ = command("--quiet", "data", "suggest", ready.layout.root, "--json")
    photos = [json.loads(line) for line in output.splitlines()]
    assert (status, photos[0]["photo"], {each["photo"] for each in photos}) == (0, "01", {"00", "01", "02"})
    assert photos[0]["classes"]["dog"]["agreement"] < 0.1
    assert photos[0]["doubt"] > 0.4
    assert photos[1]["classes"]["cat"] == {"expected_iou": 1.0, "agreement": 1.0}
    assert photos[0]["path"] == str(ready.data.photos[1].path)

    status, output, _ = command("data", "suggest", ready.layout.root, "--count", 1)
    lines = [line.split() for line in output.splitlines()]
    assert lines[0] == ["photo", "tag", "expected", "IoU", "agreement"]
    assert lines[1][:2] == ["01", "dog"]
    assert output.splitlines()[-1] == "1 photo to correct"


def test_what_is_corrected_is_left_out(ready: Finished, command: Command):
    said = Correction.of(np.zeros((64, 80), dtype=np.uint8), ("background",))
    photos = (replace(ready.data.photos[0], correction=said), *ready.data.photos[1:])
    write_photos(ready.layout, replace(ready.data, photos=photos))
    text = json.loads(ready.layout.description.read_text())
    ready.layout.description.write_text(json.dumps(text | {"held_out": ["02"]}))
    _, output, _ = command("--quiet", "data", "suggest", ready.layout.root, "--json")
    assert [json.loads(line)["photo"] for line in output.splitlines()] == ["01"]


def test_a_page_and_tasks_with_masks_are_written(ready: Finished, command: Command, tmp_path: Path):
    out = tmp_path / "out"
    assert command("--quiet", "data", "suggest", ready.layout.root, "--count", 2, "--out", out)[0] == 0
    assert {path.name for path in out.iterdir()} == {"suggestions.html", "masks", "tasks.json", "interface.xml"}
    page = Page((out / "suggestions.html").read_text(encoding="utf-8"))
    pictures = [attributes["alt"] for tag, attributes in page.tags if tag == "img"]
    assert pictures[:3] == ["photo, 01", "mask, 01", "labels, 01"]
    assert len(pictures) == 6
    tasks = json.loads((out / "tasks.json").read_text())
    assert len(tasks) == 2
    (dog,) = [task for task in tasks if "01.png" in task["data"]["image"]]
    (result,) = dog["predictions"][0]["result"]
    assert (result["type"], result["value"]["brushlabels"]) == ("brushlabels", ["dog"])
    alone = tmp_path / "page.html"
    assert command("--quiet", "data", "suggest", ready.layout.root, "--out", alone)[0] == 0
    assert alone.is_file()


def test_an_unfinished_run_is_refused(run: Finished, command: Command):
    status, _, error = command("data", "suggest", run.layout.root)
    assert status == 2
    assert "not finished, or without a record of its photos" in error


def test_a_run_that_lost_its_files_is_refused(ready: Finished, command: Command):
    features_file(ready.data.photos[2], ready.layout.root, 2).unlink()
    status, _, error = command("--quiet", "data", "suggest", ready.layout.root)
    assert status == 2
    assert "files of photo 02 are missing or damaged" in error
