import re
import shlex
from functools import reduce
from pathlib import Path

import pytest
import typer

from tagmask.cli.main import app
from training.config import TrainConfig

TEXT = (Path(__file__).parents[3] / "docs" / "report.md").read_text(encoding="utf-8")
SECTIONS = TrainConfig.model_fields
SETTINGS = sorted({name for name in re.findall(r"`([a-z_.]+)`", TEXT) if name.split(".")[0] in SECTIONS})


def test_settings_are_told_of():
    assert len(SETTINGS) > 15


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_one(name: str):
    reduce(getattr, name.split("."), TrainConfig())


@pytest.mark.parametrize("line", re.findall(r"^tagmask (.*)$", TEXT, flags=re.MULTILINE))
def test_every_command_is_understood(line: str):
    name, *arguments = shlex.split(line, comments=True)
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    assert command.make_context(name, arguments).params["run"] == Path("RUN")
