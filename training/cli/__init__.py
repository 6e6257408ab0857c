"""The command line `tagmask`.

Modules that need torch are imported inside the commands, so that `--help` and the data commands answer at once.
Packages above training add commands of their own by entry points of the group `tagmask.commands`, each a Typer app.
"""

import os
import sys
from importlib.metadata import entry_points
from typing import Annotated

import typer

from training.cli import data, measure, paint, report, terminal, train
from training.errors import TagmaskError
from training.process import spin_briefly

app = typer.Typer(
    name="tagmask",
    help="Tagged photos in, a network that paints each tag's pixels out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(train.train)
app.command()(measure.evaluate)
app.command()(measure.score)
app.command()(paint.segment)
app.command()(paint.label)
app.command()(paint.look)
app.command()(report.report)
app.add_typer(data.app, name="data")
for command in sorted(entry_points(group="tagmask.commands"), key=lambda each: each.name):
    app.add_typer(command.load(), name=command.name)


@app.callback()
def _start(
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress bars.")] = False,
) -> None:
    os.environ.setdefault("DO_NOT_TRACK", "1")
    spin_briefly()
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
