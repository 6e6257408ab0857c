"""Benchmarks as commands, and the options that several of them have."""

import inspect
from collections.abc import Callable
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
    text = inspect.getdoc(inspect.getmodule(main)) or ""
    app.command(help=text.replace("\n\n", "\n\n\b\n"))(main)  # \b keeps the lines of a paragraph
    return app
