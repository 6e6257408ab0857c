"""`tagmask train`: tagged photos in, a bundle out."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Column, Table
from rich.text import Text

from tagmask.cli.terminal import Bars, listed, note, show, tell, warn, warn_of
from tagmask.cores import cores
from tagmask.errors import ConfigError
from tagmask.inputs import Precision
from training.choices import Preset
from training.cli.data import Accepted, Classes, Corrections, Data, DataFormat, Hints, Nothing, Split

if TYPE_CHECKING:
    from training.datasets.photos import TaggedPhotos
    from training.run.ledger import Ledger


def train(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder of the run, in which model.onnx is written.", metavar="RUN")],
    split: Split = None,
    classes: Classes = None,
    none: Nothing = None,
    format: DataFormat = None,
    corrections: Corrections = None,
    accepted: Accepted = False,
    hints: Hints = None,
    backbone: Annotated[
        str | None, typer.Option(help="A network of timm.", show_default="tf_efficientnet_lite0")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="State dict of the backbone, 'pretrained' to download timm's, or 'random'.",
            show_default="the installed one, or pretrained",
        ),
    ] = None,
    rounds: Annotated[int | None, typer.Option(help="Bottom-up and top-down passes.", show_default="3")] = None,
    saliency: Annotated[
        Path | None, typer.Option(help="ONNX saliency network to use instead of the unsupervised one.")
    ] = None,
    preset: Annotated[
        Preset, typer.Option(help="Trade-off between time and accuracy; --config and --set override it.")
    ] = "default",
    config: Annotated[Path | None, typer.Option(help="Settings, as TOML.", metavar="FILE.toml")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting, such as pixelnet.fit.epochs=3; repeatable.", metavar="NAME=VALUE"),
    ] = None,
    device: Annotated[str, typer.Option(help="Device to train on: auto, cpu or cuda.")] = "auto",
    workers: Annotated[int | None, typer.Option(min=1, help="Number of processes.", show_default="cores")] = None,
    precision: Annotated[Precision, typer.Option(help="Precision of the exported network.")] = "fp32",
    seed: Annotated[int | None, typer.Option(help="Random seed.", show_default="0")] = None,
    start: Annotated[
        Path | None, typer.Option(help="Finished run to start from; its classes may differ.", metavar="RUN")
    ] = None,
    tensorboard: Annotated[
        Path | None, typer.Option(help="Folder for TensorBoard, in which each run gets one of its name.", metavar="DIR")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume the run in --out, if any.")] = False,
) -> None:
    """Train a mask network on tagged photos, and export it as ONNX."""
    from training.config import load_config
    from training.datasets import load

    options = {"backbone": backbone, "weights": weights, "rounds": rounds, "saliency.network": saliency, "seed": seed}
    named = {name: value for name, value in options.items() if value is not None}
    settings = load_config(config, {**assignments(set_ or []), **named}, preset)
    photos = load(
        data, split=split, classes=listed(classes), none=listed(none), format=format, corrections=corrections,
        accepted=accepted, hints=hints,
    )  # fmt: skip
    workers = workers or cores()
    from training.evaluation.estimate import sentence
    from training.evaluation.warnings import warnings
    from training.fitting import devices
    from training.run.train import train as run

    chosen = devices.choose(device)
    devices.save_time(chosen)
    with devices.process_group(chosen):
        checked = devices.from_first(partial(_checked, photos, workers))
        note(f"device: {devices.title(chosen)}")
        result = run(
            checked, out, settings, device=device, resume=resume, workers=workers, precision=precision, start=start,
            tensorboard=tensorboard, progress=Bars(),
        )  # fmt: skip
    if result.first:
        show(stage_table(result.ledger))
        tell(f"round {result.kept} kept; weights {result.weights_digest[:12]}; {result.model}")
        if values := result.decision.get("estimate"):  # runs of earlier versions lack it
            tell(f"{sentence(values)}; see docs/photos.md")
        if result.measured:
            tell(f"{result.measured}; see docs/corrections.md")
        if why := result.decision["why"]:
            warn("warning", f"round {result.kept} is kept as the first; {why}")
        evidence = result.ledger.find(result.kept, "evidence") or {}
        for text in warnings(settings.saliency.network, evidence, result.decision):
            warn("warning", text)


def _checked(photos: "TaggedPhotos", workers: int) -> "TaggedPhotos":
    """The photos that can be used, after a warning for each fault of the data."""
    from training.datasets.check import check

    with Bars().stage("checking photos", len(photos.photos)) as advance:
        report = check(photos, workers=workers, advance=advance)
    warn_of("fault", report.data.faults)
    for warning in report.warnings:
        warn("warning", warning)
    return report.data


def assignments(texts: list[str]) -> dict[str, Any]:
    """NAME=VALUE texts as a dictionary; values are numbers, true, false, or text. Raises ConfigError without `=`."""
    from pydantic_core import from_json

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


def stage_table(ledger: "Ledger") -> Table:
    """Cost of each stage, and its quality if known."""
    from training.run.ledger import remark

    figures = (Column(name, justify="right") for name in ("seconds", "s per photo", "mIoU"))
    table = Table("round", "stage", *figures, "", title="stages", title_justify="left")
    for line in ledger:
        seconds, photos = line.get("seconds"), line.get("photos")
        cells = [str(line["round"]), line["stage"]]
        cells += ["", ""] if seconds is None else [f"{seconds:.1f}", f"{seconds / photos:.3f}"]
        cells.append(f"{line['miou']:.1f}" if "miou" in line else "")
        table.add_row(*cells, Text(remark(line)), end_section=line["stage"] in ("class_maps", "decision"))
    return table
