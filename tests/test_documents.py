"""README and docs: every link leads somewhere, every command, option and target exists."""

import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from benchmarks.command import command_of
from tagmask.cli.main import app
from tests.pages import PAGES, ROOT, commands, read

OURS = "serve|train|quantize|evaluate|score|segment|label|look|report|data|flow|inbox|models"
TAGMASK = re.compile(rf"(?:\btagmask|docker compose run .*?training) ((?:{OURS}) .*|(?:{OURS})$)")
BENCHMARK = re.compile(r"python -m (benchmarks\.\w+)(.*)")
EXAMPLE = re.compile(r"python -m (examples\.\w+)(.*)")
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)")


def anchors(page: Path) -> set[str]:
    """What can stand after # in a link to `page`."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str):
    for target, anchor in LINK.findall(read(page)):
        place = (ROOT / page).parent / target if target else ROOT / page
        assert place.exists(), target
        assert not anchor or anchor in anchors(place), f"{target}#{anchor}"


FILE = re.compile(r"(?:tagmask|training|service|flows|tests|benchmarks|examples|docs)/[\w./-]*")


@pytest.mark.parametrize("page", PAGES)
def test_files_of_the_repository_exist(page: str):
    for name in filter(FILE.fullmatch, commands(page)):
        assert (ROOT / name).exists() or "NAME" in name, name


def options(command: Any) -> set[str]:
    return {name for each in command.params for name in (*each.opts, *each.secondary_opts)}


@pytest.mark.parametrize("page", PAGES)
def test_tagmask_has_these_commands(page: str):
    for line in commands(page):
        for call in TAGMASK.findall(line):
            command: Any = get_command(app)
            for word in shlex.split(re.split(r" [|&;>]|…", call)[0]):
                if word in getattr(command, "commands", {}):
                    command = command.commands[word]
                elif word.startswith("--"):
                    assert word.partition("=")[0] in options(command) | {"--help"}, f"tagmask {call}"
            assert not hasattr(command, "commands") or " " not in call, f"tagmask {call}: no command is named"


def calls(command: Any, *names: str) -> Iterator[tuple[str, ...]]:
    """Every command, as the names that call it."""
    for name, each in getattr(command, "commands", {}).items():
        yield from calls(each, *names, name)
    yield names


@pytest.mark.parametrize("call", [*calls(get_command(app))], ids=" ".join)
def test_help_fits_a_terminal_of_80_columns(call: tuple[str, ...]):
    result = CliRunner().invoke(app, [*call, "--help"], env={"COLUMNS": "80", "TERM": "dumb"})
    assert result.exit_code == 0
    for line in re.sub(r"\x1b\[[0-9;]*m|\[[0-9<=x>]+\]", "", result.output).splitlines():  # without colours and ranges
        assert len(line) <= 80
        assert not re.search("<[^>]*$", line), f"a type is broken: {line}"


@pytest.mark.parametrize("page", PAGES)
def test_make_has_these_targets(page: str):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for line in commands(page):
        for target, assignments in re.findall(r"(?:^|\s)make ([a-z][a-z-]*)((?: [A-Z]+=\S+)*)", line):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
            for variable in re.findall(r"([A-Z]+)=", assignments):
                assert re.search(rf"^{variable} :=|\$\({variable}\)", makefile, re.MULTILINE), variable


@pytest.mark.parametrize("page", PAGES)
def test_benchmarks_have_these_options(page: str):
    for line in commands(page):
        for name, rest in BENCHMARK.findall(line):
            module = import_module(f"{name}.__main__" if (ROOT / name.replace(".", "/")).is_dir() else name)
            command: Any = get_command(module.app if hasattr(module, "app") else command_of(module.main))
            command = getattr(command, "commands", {}).get(rest.split()[0], command) if rest.split() else command
            for option in re.findall(r"(?<=\s)--[a-z-]+", rest):
                assert option in options(command), f"{name} {option}"


@pytest.mark.parametrize("page", PAGES)
def test_examples_have_these_options(page: str):
    for line in commands(page):
        for module, rest in EXAMPLE.findall(line):
            place = ROOT / module.replace(".", "/")
            source = (place / "__main__.py" if place.is_dir() else place.with_suffix(".py")).read_text(encoding="utf-8")
            for option in re.findall(r"(?<=\s)--[a-z-]+", rest):
                assert f'"{option}"' in source, f"{module} {option}"
