"""`tagmask models`: the bundles of a store, and which of them is served.

Commands import what they need themselves, so that `--help` is fast.
"""

from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from tagmask.cli import terminal
from tagmask.errors import BundleError

if TYPE_CHECKING:
    from tagmask.metadata import Metadata
    from tagmask.store import Store

_CLASSES_SHOWN = 8  # of a model, at most

app = typer.Typer(help="Manage the bundles of a store.", no_args_is_help=True)

DEFAULT = "store"
Place = Annotated[
    str, typer.Option("--store", envvar="TAGMASK_STORE", help="Folder or URL of bundles by version.", metavar="STORE")
]
Version = Annotated[str, typer.Argument(help="A version that `tagmask models list` shows.", metavar="VERSION")]


@app.command("list")
def list_(store: Place = DEFAULT) -> None:
    """List the bundles, oldest first; * marks the champion, which is served."""
    from rich.table import Column, Table

    from tagmask.bundle import read_metadata

    kept = _open(store)
    champion = kept.champion()
    table = Table("", Column("version", no_wrap=True), "created", "classes", "round", "metrics", "size", box=None)
    damaged = []
    for version in kept.versions():
        mark = "*" if champion is not None and champion.version == version else ""
        try:
            cells = _describe(read_metadata(kept.path(version)))
        except BundleError as fault:
            damaged.append(fault)
            cells = ("damaged", "", "", "")
        table.add_row(mark, version, *map(Text, cells), f"{kept.record(version).bytes / 1e6:.1f} MB")
    if table.row_count:
        terminal.show(table)
    else:
        typer.echo(f"no bundles in {store}; add one with `tagmask models add model.onnx`")
    for each in damaged:
        terminal.warn("error", str(each))


@app.command()
def add(
    file: Annotated[Path, typer.Argument(help="A bundle, model.onnx.", metavar="FILE")],
    promote: Annotated[bool, typer.Option("--promote", help="Also make it the champion.")] = False,
    store: Place = DEFAULT,
) -> None:
    """Check a bundle, try it on this machine, and copy it into the store."""
    import asyncio

    from tagmask.trial import try_bundle

    kept = _open(store)
    asyncio.run(try_bundle(file))
    version = kept.publish(file).version
    typer.echo(f"{version} is in {store}")
    if promote:
        _print_champion(kept.promote(version).version)


@app.command()
def promote(version: Version, store: Place = DEFAULT) -> None:
    """Make a bundle the champion; running services switch to it."""
    _print_champion(_open(store).promote(version).version)


@app.command()
def rollback(store: Place = DEFAULT) -> None:
    """Return to the previous champion; running services switch to it."""
    _print_champion(_open(store).rollback().version)


@app.command()
def history(store: Place = DEFAULT) -> None:
    """List the events of the store, oldest first: publications, decisions, promotions, removals, and reasons."""
    from rich.table import Column, Table

    table = Table(Column("when (UTC)", no_wrap=True), Column("version", no_wrap=True), "what", "why", box=None)
    for event in _open(store).history():
        gate = {True: "passed the gate", False: "failed the gate", None: event.event}
        when = f"{event.at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
        table.add_row(when, Text(event.version), gate[event.promoted], Text("; ".join(event.reasons)))
    if table.row_count:
        terminal.show(table)
    else:
        typer.echo(f"no events in {store} yet; add a bundle with `tagmask models add model.onnx`")


@app.command()
def prune(
    keep: Annotated[int, typer.Option("--keep", min=0, help="Number of bundles to keep, newest first.", metavar="N")],
    store: Place = DEFAULT,
) -> None:
    """Remove old bundles, except the champion and the one that `rollback` returns to."""
    removed = _open(store).retain(keep)
    for version in removed:
        typer.echo(f"{version} is removed")
    if not removed:
        typer.echo("nothing to remove")


def _open(place: str) -> "Store":
    from tagmask.store import Store

    return Store(place)


def _print_champion(version: str) -> None:
    typer.echo(f"{version} is the champion")


def _describe(metadata: "Metadata") -> tuple[str, str, str, str]:
    """Cells of the table: created, classes, round, metrics."""
    names = metadata.classes[1:]
    more = f" and {len(names) - _CLASSES_SHOWN} more" if len(names) > _CLASSES_SHOWN else ""
    figures = [f"{name} {value:.3g}" for name, value in metadata.metrics.items() if isinstance(value, int | float)]
    if metadata.measured:
        figures.insert(0, f"mIoU {metadata.measured.with_tags}")
    return (
        f"{metadata.created.astimezone(UTC):%Y-%m-%d %H:%M}",
        ", ".join(names[:_CLASSES_SHOWN]) + more,
        str(metadata.rounds),
        figures[0] if figures else "-",
    )
