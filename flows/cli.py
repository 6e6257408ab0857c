"""`tagmask flow`: training and retraining by Prefect.

Commands import what they need themselves, to keep `--help` fast.
"""

import json
import os
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tagmask.errors import RunError, TagmaskError
from tagmask.inputs import absolute_location, local_path
from training.choices import Format, Preset, names

if TYPE_CHECKING:
    from rich.table import Table

    from flows.past_runs import PastRuns

app = typer.Typer(name="flow", help="Train and retrain by Prefect, and promote better models.", no_args_is_help=True)

Sources = Annotated[
    list[str],
    typer.Argument(help="Folders, lists or URLs of tagged photos, as for `tagmask data check`.", metavar="SOURCE…"),
]
Split = Annotated[str | None, typer.Option(help="Use only this split of the sources.")]
Classes = Annotated[str | None, typer.Option(help="Use only these tags, separated by commas.", metavar="A,B,…")]
Nothing = Annotated[
    str | None, typer.Option("--none", help="Tags, or folders, of photos that show no class.", metavar="A,B,…")
]
SourceFormat = Annotated[
    Format | None,
    typer.Option(
        "--format", help=f"Format of the sources: {names(Format)}.", metavar="FORMAT", show_default="detected"
    ),
]
Hints = Annotated[
    str | None,
    typer.Option(help="Masks of the photos that another model made, used where they agree with the tags.",
                 metavar="SOURCE"),
]  # fmt: skip
Folder = Annotated[
    Path,
    typer.Option("--workspace", envvar="TAGMASK_WORKSPACE", help="Folder for all data of the flows.", metavar="DIR"),
]
StorePlace = Annotated[
    str | None,
    typer.Option("--store", envvar="TAGMASK_STORE", help="Folder or URL of the bundles.",
                 show_default="WORKSPACE/store", metavar="STORE"),
]  # fmt: skip
Config = Annotated[
    Path | None, typer.Option(help="TOML file with settings; docs/flows.md lists them.", metavar="FILE.toml")
]
PresetName = Annotated[
    Preset, typer.Option("--preset", help="Trade-off between training time and accuracy; --config overrides it.")
]
DEFAULT = Path("workspace")
_CLASSES_SHOWN = 8  # of a run, at most


@app.command(
    "retrain", help="Retrain from the champion if there are enough new photos, and promote the result if it is better."
)
@app.command("train", help="Train from scratch, and promote the result if it is better than the champion.")
def run(
    context: typer.Context,
    sources: Sources,
    workspace: Folder = DEFAULT,
    split: Split = None,
    classes: Classes = None,
    none: Nothing = None,
    format: SourceFormat = None,
    hints: Hints = None,
    preset: PresetName = "default",
    config: Config = None,
    store: StorePlace = None,
    force: Annotated[bool, typer.Option("--force", help="Train even if there is no reason to.")] = False,
) -> None:
    """Run the flow of the command's name in this process. Raises its TagmaskError, if any, as it is."""
    import httpx

    from flows.orchestration.console import log_to_console
    from flows.orchestration.server import prefect_server
    from flows.retrain import retrain
    from flows.settings import load_settings
    from flows.train import train

    flow = {"train": train, "retrain": retrain}[str(context.info_name)]
    settings = load_settings(config, preset)
    _export_notify(config)
    log_to_console()
    roots = _sources(sources, split, classes, none, format, hints)
    try:
        with prefect_server():
            state = flow(workspace, roots, settings, store, force, return_state=True)
    except httpx.TransportError as fault:
        raise RunError(
            f"Prefect's server no longer answers ({fault}); start it again, and then the flow, which resumes"
        ) from fault
    result = f"{str(state.name).lower()}: {state.message}"
    if state.is_completed():
        typer.echo(result)
        return
    error = state.result(raise_on_failure=False)
    if isinstance(error, TagmaskError):
        raise error
    typer.echo(result, err=True)
    raise typer.Exit(1)


@app.command()
def schedule(
    sources: Sources,
    cron: Annotated[str, typer.Option(help="Minute, hour, day of month, month, day of week.", metavar="'0 3 * * *'")],
    workspace: Folder = DEFAULT,
    split: Split = None,
    classes: Classes = None,
    none: Nothing = None,
    format: SourceFormat = None,
    hints: Hints = None,
    preset: PresetName = "default",
    config: Config = None,
    store: StorePlace = None,
    timezone: Annotated[
        str | None,
        typer.Option(help="Time zone of the schedule, such as Europe/Berlin.", show_default="this machine's"),
    ] = None,
) -> None:
    """Retrain on a schedule until Ctrl-C."""
    from flows.orchestration.crashed import workspace_tag
    from flows.orchestration.schedule import read_times, schedule
    from flows.retrain import retrain
    from flows.settings import load_settings
    from flows.workspace import Workspace
    from tagmask.cli.terminal import warn

    settings = load_settings(config, preset)
    times = read_times(cron, timezone)
    _export_notify(config)
    root = local_path(workspace).absolute()
    parsed = _sources(sources, split, classes, none, format, hints)
    for source in parsed:
        if isinstance(source.root, Path) and not source.root.exists():
            warn("warning", f"{source.root}: no such folder or list yet; runs fail until it is there")
    parameters = {
        "workspace": root,
        "sources": parsed,
        "settings": settings,
        "store": absolute_location(store) if store else None,
    }
    with Workspace(root).lock_schedule():
        name = workspace_tag(root).removeprefix("workspace:")
        schedule(retrain, times, parameters=parameters, name=name, if_busy=settings.if_busy)


@app.command()
def runs(
    workspace: Folder = DEFAULT,
    store: StorePlace = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with all settings.")] = False,
) -> None:
    """Show the trainings of a workspace beside one another, oldest first: figures, and settings in which they differ.

    * marks the champion.
    """
    from pydantic_core import to_json

    from flows.past_runs import past_runs
    from flows.workspace import Workspace
    from tagmask.cli.terminal import show, warn_of

    past = past_runs(Workspace(local_path(workspace), store))
    if as_json:
        typer.echo(to_json(past.runs, indent=2).decode())
    elif past.runs:
        show(_table(past))
    else:
        typer.echo(f"no trainings in {workspace} yet; start one with `tagmask flow train`")
    warn_of("left out", past.faults)


def _table(past: "PastRuns") -> "Table":
    """A column for each run: its figures, then the settings that are not the same in all."""
    from rich.table import Table
    from rich.text import Text

    from tagmask.wording import some

    def percent(value: float | None) -> str:
        return "-" if value is None else f"{value:.1f}"

    table = Table("", *(run.key for run in past.runs), box=None)
    rows: dict[str, list[str]] = {
        "finished (UTC)": [f"{run.at.astimezone(UTC):%Y-%m-%d %H:%M}" for run in past.runs],
        "data": [run.data_digest[:12] for run in past.runs],
        "photos": [f"{run.photos:,}" for run in past.runs],
        "classes": [some(run.classes, _CLASSES_SHOWN) for run in past.runs],
        "started from": ["champion" if run.from_champion else "scratch" for run in past.runs],
        "finished rounds": [str(run.rounds) for run in past.runs],
        "estimated mIoU": [percent(run.estimated_miou) for run in past.runs],
        "mIoU": [percent(run.miou) for run in past.runs],
        "version": [f"{run.version or '-'}{' *' if run.champion else ''}" for run in past.runs],
        "result": [run.result for run in past.runs],
    }
    for name, cells in rows.items():
        table.add_row(name, *map(Text, cells))
    table.add_section()
    for name, values in past.differences().items():
        table.add_row(name, *(Text(json.dumps(value)) for value in values))
    return table


def _export_notify(config: Path | None) -> None:
    """Hand the section `notify` to the runs of this process and its children, which take it from the environment."""
    from flows.settings import NOTIFY, load_notify

    os.environ[NOTIFY] = load_notify(config).model_dump_json()


def _sources(
    roots: list[str],
    split: str | None,
    classes: str | None,
    none: str | None,
    format: Format | None,
    hints: str | None,
) -> list[Any]:
    from flows.collection.sources import Source
    from tagmask.inputs import split_tags

    limits = split, split_tags(classes) or None, split_tags(none) or None, format
    place = absolute_location(hints) if hints else None
    return [Source(absolute_location(root), *limits, place) for root in roots]
