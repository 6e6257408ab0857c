"""Progress bars and tables on a terminal."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from tagmask.errors import Fault
from tagmask.inputs import split_tags
from tagmask.progress import Advance, silent
from tagmask.wording import printable

_FAULTS_SHOWN = 20  # at most; the others are counted

_LEAST_WIDTH = 80  # columns of a table

_SPEED_S = 600  # that the time left is estimated from, as a step of a network may take a minute

LINE_S = 30.0
"""Seconds between two lines about a stage, at least, where there is no terminal."""

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
        """Show a bar of `total` photos while the context is open; without a terminal, a line every LINE_S seconds."""
        if quiet:
            yield silent
            return
        columns = (
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description:<28}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        shown = errors.is_terminal
        with Progress(*columns, console=errors, disable=not shown, speed_estimate_period=_SPEED_S) as bars:
            task = bars.add_task(name, total=total)
            yield partial(bars.advance, task) if shown else _in_lines(bars, task)


def _in_lines(bars: Progress, task: TaskID) -> Advance:
    """Advances `task`, whose bar is not shown, and prints how far it is."""
    printed = bars.get_time()
    note(f"{bars.tasks[task].description} …")

    def advance(photos: int) -> None:
        nonlocal printed
        bars.advance(task, photos)
        stage, now = bars.tasks[task], bars.get_time()
        if now - printed >= LINE_S and not stage.finished:
            printed = now
            left = "" if stage.time_remaining is None else f", {timedelta(seconds=stage.time_remaining)} left"
            note(f"{stage.description}, {stage.percentage:.0f}%{left}")

    return advance


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
