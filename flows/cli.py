"""`tagmask flow`: training and retraining by Prefect.

Commands import what they need themselves, so that `--help` answers at once.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.settings import FlowSettings, load_settings
from tagmask.errors import TagmaskError
from training.config import Preset
from training.datasets import Format

app = typer.Typer(name="flow", help="Train and retrain by Prefect, and promote what is better.", no_args_is_help=True)

Sources = Annotated[
    list[Path],
    typer.Argument(help="Tagged photos: folders or lists as `tagmask data check` takes.", metavar="SOURCE…"),
]
Split = Annotated[str | None, typer.Option(help="Only the photos of this split of the sources.")]
Classes = Annotated[
    str | None, typer.Option(help="Only these tags of the sources, separated by commas.", metavar="A,B,…")
]
SourceFormat = Annotated[
    Format | None,
    typer.Option("--format", help="What the sources are, where it does not show.", show_default="found out"),
]
Folder = Annotated[
    Path,
    typer.Option("--workspace", envvar="TAGMASK_WORKSPACE", help="Folder that everything is kept in.", metavar="DIR"),
]
StoreFolder = Annotated[
    Path | None,
    typer.Option("--store", envvar="TAGMASK_STORE", help="Folder of bundles.", show_default="WORKSPACE/store",
                 metavar="DIR"),
]  # fmt: skip
Config = Annotated[Path | None, typer.Option(help="Settings of flows/settings.py, as TOML.", metavar="FILE.toml")]
Chosen = Annotated[
    Preset, typer.Option("--preset", help="How much time to spend on accuracy; what --config names is changed.")
]
DEFAULT = Path("workspace")


@app.command()
def train(
    sources: Sources,
    workspace: Folder = DEFAULT,
    split: Split = None,
    classes: Classes = None,
    format: SourceFormat = None,
    preset: Chosen = "default",
    config: Config = None,
    store: StoreFolder = None,
    force: Annotated[bool, typer.Option("--force", help="Train again on unchanged photos and settings.")] = False,
) -> None:
    """Train from the start, and promote the result if it is better than the champion."""
    from flows.train import train

    _run(train, workspace, _sources(sources, split, classes, format), load_settings(config, preset), store, force)


@app.command()
def retrain(
    sources: Sources,
    workspace: Folder = DEFAULT,
    split: Split = None,
    classes: Classes = None,
    format: SourceFormat = None,
    preset: Chosen = "default",
    config: Config = None,
    store: StoreFolder = None,
    force: Annotated[bool, typer.Option("--force", help="Retrain without another reason.")] = False,
) -> None:
    """Retrain on what is new, if it is enough, and promote the result if it is better than the champion."""
    from flows.retrain import retrain

    _run(retrain, workspace, _sources(sources, split, classes, format), load_settings(config, preset), store, force)


@app.command()
def schedule(
    sources: Sources,
    cron: Annotated[str, typer.Option(help="Minute, hour, day of month, month, day of week.", metavar="'0 3 * * *'")],
    workspace: Folder = DEFAULT,
    split: Split = None,
    classes: Classes = None,
    format: SourceFormat = None,
    preset: Chosen = "default",
    config: Config = None,
    store: StoreFolder = None,
    timezone: Annotated[
        str | None, typer.Option(help="Of the times, such as Europe/Berlin.", show_default="this machine's")
    ] = None,
) -> None:
    """Retrain by the clock until Ctrl-C."""
    from flows.orchestration.schedule import schedule
    from flows.retrain import retrain

    settings = load_settings(config, preset)
    parameters = {
        "workspace": workspace.absolute(),
        "sources": _sources(sources, split, classes, format),
        "settings": settings,
        "store": store.absolute() if store else None,
    }
    schedule(retrain, cron=cron, parameters=parameters, timezone=timezone, second=settings.if_busy)


def _run(
    flow: Callable[..., Any],
    workspace: Path,
    sources: list[Any],
    settings: FlowSettings,
    store: Path | None,
    force: bool,
) -> None:
    """Run a flow in this process; what the user has to put right is raised as it is."""
    from flows.orchestration.console import log_to_console
    from flows.orchestration.server import prefect_server

    log_to_console()
    with prefect_server():
        state = flow(workspace, sources, settings, store, force, return_state=True)
    if state.is_completed():
        typer.echo(f"{state.name.lower()}: {state.message}")
        return
    fault = state.result(raise_on_failure=False)
    if isinstance(fault, TagmaskError):
        raise fault
    typer.echo(f"{state.name.lower()}: {state.message}", err=True)
    raise typer.Exit(1)


def _sources(roots: list[Path], split: str | None, classes: str | None, format: Format | None) -> list[Any]:
    from flows.collection.sources import Source
    from tagmask.cli.terminal import listed

    chosen = listed(classes)
    return [Source(root.absolute(), split, tuple(chosen) if chosen else None, format) for root in roots]
