from pathlib import Path

import pytest
from typer.testing import CliRunner

from tagmask.cli import main as cli
from tests.training.colour_bundle import write_colour_bundle
from tests.training.conftest import Command
from tests.training.report.conftest import Finished
from training.run.description import write_photos


@pytest.fixture
def command(command: Command) -> Command:
    """Run `tagmask report` in this process; returns exit status, standard output and standard error."""
    return lambda *arguments: command("--quiet", "report", *arguments, "--workers", "1")


@pytest.fixture
def listed(run: Finished) -> Path:
    """The run's photos as a data set with the splits train and val, and one that it did not learn from."""
    root = run.data.root
    (root / "photos").rename(root / "images")
    (root / "truth").rename(root / "masks")
    (root / "images" / "99.png").write_bytes((root / "images" / "00.png").read_bytes())
    (root / "masks" / "99.png").write_bytes((root / "masks" / "00.png").read_bytes())
    rows = [f"{photo.id}.png,{' '.join(photo.tags)},train\n" for photo in run.data.photos]
    (root / "tags.csv").write_text("image,tags,split\n" + "".join(rows) + "99.png,cat,val\n")
    (root / "classes.txt").write_text("background\ncat\ndog\n")
    return root


def test_a_run_that_knows_its_photos_needs_no_more(command: Command, run: Finished):
    write_photos(run.layout, run.data)
    status, output, errors = command(run.layout.root)
    page = run.layout.report
    assert (status, output, errors) == (0, f"{page}, {page.stat().st_size / 1e6:.1f} MB\n", "")
    assert page.read_text().count("<article") == 3


def test_photos_are_taken_from_where_one_says(command: Command, run: Finished, listed: Path, tmp_path: Path):
    write_photos(run.layout, run.data)  # which no longer exist
    page = tmp_path / "page.html"
    assert command(run.layout.root, "--out", page)[0] == 0
    assert "None of the photos could be read at its path" in page.read_text()
    assert command(run.layout.root, listed, "--out", page, "--photos", 2)[0] == 0
    assert page.read_text().count("<article") == 2
    assert "<tr><th>photos of the run</th><td>3</td></tr>" in page.read_text()
    assert "photos available" not in page.read_text()
    assert not run.layout.report.exists()


def test_a_run_that_does_not_know_its_photos_says_so(command: Command, run: Finished):
    status, _, errors = command(run.layout.root)
    assert status == 0
    assert errors.startswith(f"incomplete: {run.layout.root} has not recorded its photos; ")
    assert "<article" not in run.layout.report.read_text()


def test_the_bundle_is_measured_on_a_split(command: Command, run: Finished, listed: Path):
    write_colour_bundle(run.layout.model)
    assert command(run.layout.root, listed, "--split", "train", "--val", "val")[0] == 0
    page = run.layout.report.read_text()
    assert '<strong>mIoU on val</strong><span class="note">1 photo with true masks' in page
    assert "Pixels of val" in page


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        ("{run}/none", "none: not a run, as it has no run.json"),
        ("{run} {data}/none", "none: no such folder or list"),
        ("{run} {data} --split other", "no split 'other'"),
        ("{run} {data} --split val", "class 'dog'|no photo is tagged 'dog'"),
        ("{run} --val val", "--val val: name the data set that has this split"),
        ("{run} {data} --val val", "model.onnx: does not exist yet"),
    ],
)
def test_what_a_user_caused_is_one_line(command: Command, run: Finished, listed: Path, arguments: str, messages: str):
    places = {"run": run.layout.root, "data": listed}
    status, out, errors = command(*(part.format(**places) for part in arguments.split()))
    assert (status, out) == (2, "")
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert any(each in errors for each in messages.split("|"))
    assert not run.layout.report.exists()


def test_help_tells_every_option():
    result = CliRunner().invoke(cli.app, ["report", "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    for option in ("RUN", "DATA", "--split", "--val", "--out", "--photos", "--workers"):
        assert option in result.output
