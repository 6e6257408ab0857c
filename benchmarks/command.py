"""Benchmarks as commands, and the options that several of them have."""

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

Split = Annotated[str, typer.Option(help="Split of the photos.")]
Val = Annotated[str, typer.Option(help="Split of the validation photos.")]
Classes = Annotated[str, typer.Option(help="Comma-separated classes.", metavar="A,B,…")]
Out = Annotated[Path, typer.Option(help="Folder to write to.", metavar="DIR")]
Every = Annotated[int, typer.Option(help="Use only every n-th photo.", metavar="N")]


def command_of(main: Callable[..., None]) -> typer.Typer:
    """`main` as a command; its module's docstring is the help."""
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)
    app.command(help=preformatted(inspect.getdoc(inspect.getmodule(main))))(main)
    return app


def preformatted(text: str | None) -> str:
    """`text` as a help whose paragraphs keep their lines."""
    return (text or "").replace("\n\n", "\n\n\b\n")


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """The rows, the titles first, as a table in Markdown."""
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
