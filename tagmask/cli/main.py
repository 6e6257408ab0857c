"""The command line `tagmask`.

Packages above add their commands by entry points of the group `tagmask.commands`, each a Typer app: one with a name
becomes a group of that name, one without adds its commands here. Modules that need torch, BentoML or Prefect are
imported inside commands, so that `--help` answers at once.
"""

import os
import sys
from importlib.metadata import entry_points
from typing import Annotated

import typer

from tagmask import launch
from tagmask.cli import models, terminal
from tagmask.errors import TagmaskError

app = typer.Typer(
    name="tagmask",
    help="Learn masks from tagged photos, and serve them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(models.app, name="models")
launch.prefer_own_packages()  # before any command is imported
for command in sorted(entry_points(group="tagmask.commands"), key=lambda each: each.name):
    app.add_typer(command.load())


@app.callback()
def _start(
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress bars.")] = False,
) -> None:
    os.environ.setdefault("DO_NOT_TRACK", "1")
    terminal.quiet = quiet or not terminal.first


def main() -> None:
    """Run the command line; what a user caused is told in one line, with exit status 2."""
    try:
        app()
    except TagmaskError as fault:
        terminal.warn("error", str(fault))
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
