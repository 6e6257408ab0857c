"""A page to look at: a Markdown artifact in Prefect's pages, text on a terminal.

Prefect's own table artifacts show ten rows at a time and align no numbers, so tables are Markdown too.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from prefect.artifacts import create_markdown_artifact
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import Markdown

from flows.orchestration.progress import run_logger

_SPECIAL = re.compile(r"[\\`*_{}\[\]<>#|~&]")


@dataclass(frozen=True)
class Page:
    """`key` names it, so that Prefect shows its history; `summary` is one line, shown wherever it is listed."""

    key: str
    summary: str
    markdown: str

    def publish(self) -> None:
        """Show it in Prefect as an artifact of the run that this is called in; outside a run nothing happens.

        A server that cannot be reached is logged, and no reason to fail.
        """
        log, within_run = run_logger()
        if not within_run:
            return
        try:
            create_markdown_artifact(self.markdown, key=self.key, description=self.summary)
        except Exception as fault:  # whatever it is, it must not end a training
            log.warning("page %s cannot be shown in Prefect (%s: %s)", self.key, type(fault).__name__, fault)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """As text, by `rich.print(page)`."""
        yield Markdown(f"**{self.summary}**\n\n{self.markdown}", hyperlinks=False)


def plain(text: str) -> str:
    """Markdown that reads as `text` on one line: tags and file names are not ours, and pages show HTML."""
    return _SPECIAL.sub(r"\\\g<0>", " ".join(text.splitlines()))


def table(header: Sequence[str], rows: Iterable[Sequence[str]], align: str) -> str:
    """A Markdown table of plain texts; `align` has an "l" or "r" a column."""
    lines = [[plain(cell) for cell in row] for row in (header, *rows)]
    lines.insert(1, ["--:" if side == "r" else ":--" for side in align])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
