"""The command line `tagmask`.

Packages above add their commands by entry points of the group `tagmask.commands`, each a Typer app: one with a name
becomes a group of that name, one without adds its commands here. Modules that need torch, BentoML or Prefect are
imported inside commands, so that `--help` answers at once.
"""

import io
import os
import sys
import traceback
from importlib.metadata import entry_points, version
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tagmask import launch
from tagmask.cli import models, terminal
from tagmask.cli.segment import segment
from tagmask.disk import FULL, temporary_files, write_fault
from tagmask.errors import ConfigError, TagmaskError
from tagmask.inputs import is_url, local_path, location

EXTRAS = {"training": "train", "service": "serve", "flows": "flows"}
"""By package: the extra that installs what its commands import."""

LOCATIONS = ("--store", "--inbox", "--corrections", "--hints")
"""Options that take the URL of a place in object storage, too."""

DATA_COMMANDS = ("train", "evaluate", "data", "flow", "inbox")
"""Commands whose arguments may be such URLs; they are named before any options."""


ORDER = ("data", "train", "report", "look", "segment", "serve", "evaluate", "score", "label", "quantize", "models")
"""Commands in the order in which they are needed; `--help` lists others after them."""


class _Commands(TyperGroup):
    """The group of all commands, which take URLs only as values of LOCATIONS and arguments of DATA_COMMANDS."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        reads = next((each for each in args if not each.startswith("-")), "") in DATA_COMMANDS
        for before, argument in pairwise(("", *args)):  # as given: Path would change s3://bucket to s3:/bucket
            option, _, value = argument.rpartition("=")
            named = (option or before) if argument.startswith("-") or before.startswith("-") else ""
            if reads and named and named not in LOCATIONS and is_url(value):
                raise ConfigError(
                    f"{value}: URLs are not supported after {named}; name those of data before the options, and for "
                    "anything else give a path on this machine"
                )
            check = location if (named in LOCATIONS if named else reads) else local_path
            check(value)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """As Click's, which would take an EOFError for the end of what a user types, and print "Aborted." alone."""
        try:
            return super().invoke(ctx)
        except EOFError as fault:
            raise RuntimeError(f"a file or pipe ended early: {fault}") from fault


app = typer.Typer(
    name="tagmask",
    cls=_Commands,
    help="Train segmentation networks on tagged photos, and serve their masks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(segment)
app.add_typer(models.app, name="models")
launch.prefer_own_packages()  # before any command is imported
for command in sorted(entry_points(group="tagmask.commands"), key=lambda each: each.name):
    app.add_typer(command.load())


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tagmask {version('tagmask')}")
        raise typer.Exit


@app.callback()
def _start(
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress bars.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    os.environ.setdefault("DO_NOT_TRACK", "1")
    terminal.quiet = quiet or not terminal.first


def main() -> None:
    """Run the command line. Errors that a user caused are printed in one line, with exit status 2."""
    launch.protect_children()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # names and bars, where the locale's encoding lacks a character
    try:
        _check_working_directory()
        with temporary_files():  # PyTorch asks for a folder as it is imported
            app()
    except TagmaskError as fault:
        terminal.warn("error", str(fault))
        sys.exit(2)
    except ModuleNotFoundError as fault:
        if (extra := _missing_extra(fault)) is None:
            raise
        terminal.warn("error", f"{fault.name} is not installed; run pip install 'tagmask[{extra}]'")
        sys.exit(2)
    except OSError as fault:
        if fault.errno not in FULL:
            raise
        sys.stdout = None  # or it would be written again, in vain, at the end
        terminal.warn("error", f"{fault.filename or 'standard output'}: {write_fault(fault)}")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _check_working_directory() -> None:
    """Raise ConfigError where it was removed: relative paths mean nothing then, and MKL ends the process."""
    try:
        Path.cwd()
    except FileNotFoundError as fault:
        raise ConfigError("the working directory was removed; change to another one and start again") from fault


def _missing_extra(fault: ModuleNotFoundError) -> str | None:
    """The extra of the command that imported what is missing; None for a defect in Tagmask."""
    if (fault.name or "").partition(".")[0] in launch.PACKAGES:
        return None
    modules = (frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(fault.__traceback__))
    packages = (module.partition(".")[0] for module in modules)
    return next((EXTRAS[package] for package in packages if package in EXTRAS), None)
