"""Progress bars and tables on a terminal."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from tagmask.errors import Fault
from tagmask.inputs import split_tags
from tagmask.progress import Advance, silent
from tagmask.wording import printable

_FAULTS_SHOWN = 20  # at most; the others are counted

_LEAST_WIDTH = 80  # columns of a table

console = Console()
errors = Console(stderr=True)

first = os.environ.get("RANK", "0") == "0"
"""Whether this process writes to the terminal; of the processes that torchrun starts, only the first does."""

quiet = False
"""Set by `--quiet`: no progress bars."""


class Bars:
    """A progress bar per stage, with the remaining time; a line stays when the stage is done."""

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Advance]:
        """Show a bar of `total` photos while the context is open; without a terminal, print one line."""
        if quiet or not errors.is_terminal:
            if not quiet:
                errors.print(f"{name} …", highlight=False)
            yield silent
            return
        columns = (
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description:<28}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        with Progress(*columns, console=errors) as bars:
            task = bars.add_task(name, total=total)
            yield lambda photos: bars.advance(task, photos)


def note(text: str) -> None:
    """Print a line about the work in progress to standard error, unless `--quiet` is given."""
    if not quiet:
        errors.print(printable(text), markup=False, highlight=False, soft_wrap=True)


def tell(text: str) -> None:
    """Print `text` literally, brackets included, on one line however long; names of files may hold terminal escapes."""
    console.print(printable(text), markup=False, highlight=False, soft_wrap=True)


def show(table: Table) -> None:
    """Print a table; a narrow terminal breaks its lines, and long words in cells, as these would be cut off."""
    for column in table.columns:
        column.overflow = "fold"
    Console(width=max(console.width, _LEAST_WIDTH)).print(table)


def warn(kind: str, text: str) -> None:
    """Print `text` literally, on one line, to standard error after its coloured `kind`, such as "left out"."""
    style = "red" if kind == "error" else "yellow"
    errors.print(Text.assemble((f"{kind}:", style), " ", printable(" ".join(text.splitlines()))), soft_wrap=True)


def warn_of(kind: str, faults: Sequence[Fault]) -> None:
    """Print the first faults, each after its `kind` as `warn` does, and the number of the others."""
    for fault in faults[:_FAULTS_SHOWN]:
        warn(kind, f"{fault.where}: {fault.why}")
    if len(faults) > _FAULTS_SHOWN:
        errors.print(f"… and {len(faults) - _FAULTS_SHOWN:,} more", highlight=False)


def listed(text: str | None) -> list[str] | None:
    """The names in a list separated by commas; None if there are none."""
    return list(split_tags(text)) or None
