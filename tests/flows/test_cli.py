"""`tagmask flow`, as it looks on a terminal."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image


@pytest.mark.usefixtures("prefect_api")
def test_what_a_terminal_shows(tmp_path: Path):
    zoo = tmp_path / "zoo"
    (zoo / "cat").mkdir(parents=True)
    for grey in range(3):
        Image.new("L", (64, 64), grey).save(zoo / "cat" / f"{grey}.png")
    (zoo / "notes.csv").write_text("date,weather\n")
    (made := tmp_path / "made").mkdir()
    (made / "classes.txt").write_text("background\nowl\n")
    Image.new("L", (64, 64), 1).save(made / "owl.png")
    tagmask = Path(sys.executable).with_name("tagmask")
    options = ["--format", "folders", "--hints", made, "--workspace", tmp_path / "workspace"]
    command = [tagmask, "flow", "train", zoo, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    messages = [line.partition("  ")[2] for line in done.stdout.splitlines()]
    assert messages[0] == "ingesting new photos"
    assert messages[1].startswith("ingesting new photos, 3 photos in ")
    assert "Flow run" not in done.stdout
    errors = " ".join(done.stderr.split())
    assert f"fault: hints {made}: made: 1 hint of photos that are not read, such as owl; ignored" in errors
    assert "(cat: 3); add photos, or lower data.min_photos" in errors
