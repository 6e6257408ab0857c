"""`tagmask train`: tagged photos in, a bundle out."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic_core import from_json
from rich.table import Table

from tagmask.cli.terminal import Bars, console, first, listed, tell, warn_left_out
from tagmask.cores import cores
from tagmask.errors import ConfigError
from training.cli.data import Classes, Data, DataFormat, Split
from training.config import Preset, load_config
from training.datasets import load
from training.datasets.check import check
from training.fitting.process import keep_freed_memory
from training.run.ledger import Ledger, remark

Precision = Literal["fp32", "fp16"]
Out = Annotated[Path, typer.Option(help="Folder of the run; model.onnx ends there.", metavar="RUN")]


def train(
    data: Data,
    out: Out,
    split: Split = None,
    classes: Classes = None,
    format: DataFormat = None,
    backbone: Annotated[
        str | None, typer.Option(help="A CNN of timm by name.", show_default="tf_efficientnet_lite0")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="State dict of the backbone, or 'random'.", show_default="the installed one")
    ] = None,
    rounds: Annotated[int | None, typer.Option(help="Bottom-up and top-down passes.", show_default="3")] = None,
    saliency: Annotated[
        Path | None, typer.Option(help="ONNX saliency network to use instead of the unsupervised one.")
    ] = None,
    preset: Annotated[
        Preset, typer.Option(help="How much time to spend on accuracy; what --config and --set name is changed.")
    ] = "default",
    config: Annotated[Path | None, typer.Option(help="Settings, as TOML.", metavar="FILE.toml")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="One setting, such as pixelnet.fit.epochs=3; may be repeated.", metavar="NAME=VALUE"
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes for per-photo stages.", show_default="cores")
    ] = None,
    precision: Annotated[Precision, typer.Option(help="Of the exported network.")] = "fp32",
    seed: Annotated[int | None, typer.Option(help="What every random number is drawn from.", show_default="0")] = None,
    start: Annotated[
        Path | None,
        typer.Option(help="A finished run whose networks to go on from; classes may differ.", metavar="RUN"),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out, if there is one.")] = False,
) -> None:
    """Learn to paint tags from tagged photos, and export the network as ONNX."""
    options = {
        "backbone": backbone,
        "weights": weights,
        "rounds": rounds,
        "saliency.network": saliency,
        "seed": seed,
    }
    given = {name: value for name, value in options.items() if value is not None}
    settings = load_config(config, {**assignments(set_ or []), **given}, preset)
    photos = load(data, split=split, classes=listed(classes), format=format)
    workers = workers or cores()
    with Bars().stage("checking photos", len(photos.photos)) as advance:
        report = check(photos, workers=workers, advance=advance)
    if first:
        warn_left_out(report.data.faults)

    keep_freed_memory()
    from training.run.train import train as run

    outcome = run(
        report.data, out, settings, device=device, resume=resume, workers=workers, precision=precision, start=start,
        progress=Bars(),
    )  # fmt: skip
    if outcome.first:
        console.print(stage_table(outcome.ledger))
        tell(f"round {outcome.kept} kept; weights {outcome.weights_digest[:12]}; {outcome.model}")


def assignments(texts: list[str]) -> dict[str, Any]:
    """NAME=VALUE texts as a dictionary; values are numbers, true, false, or text. Raises ConfigError without `=`."""
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ConfigError(f"--set {text}: write NAME=VALUE, such as pixelnet.fit.epochs=3")
        try:
            values[name] = from_json(value)
        except ValueError:
            values[name] = value
    return values


def stage_table(ledger: Ledger) -> Table:
    """What each stage cost, and how good it was as far as that is known."""
    table = Table(title="stages", title_justify="left")
    for column in ("round", "stage"):
        table.add_column(column)
    for column in ("seconds", "s a photo", "mIoU"):
        table.add_column(column, justify="right")
    table.add_column("")
    for line in ledger:
        seconds, photos = line.get("seconds"), line.get("photos")
        cells = [str(line["round"]), line["stage"]]
        cells += ["", ""] if seconds is None else [f"{seconds:.1f}", f"{seconds / photos:.3f}"]
        cells.append(f"{line['miou']:.1f}" if "miou" in line else "")
        table.add_row(*cells, remark(line), end_section=line["stage"] in ("maps", "decision"))
    return table
