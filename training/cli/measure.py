"""`tagmask evaluate` and `tagmask score`: how good masks are."""

from json import dumps
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from tagmask import files
from tagmask.cli.terminal import Bars, console, listed, warn
from tagmask.errors import DataError
from training.cli.data import Classes, Data, DataFormat, Split
from training.config import CrfConfig
from training.datasets import load
from training.evaluation.metrics import Scores, score_folders

Model = Annotated[Path, typer.Argument(help="A bundle, model.onnx.", metavar="MODEL")]
Crf = Annotated[bool, typer.Option("--crf", help="Refine masks by DenseCRF; slower.")]
Json = Annotated[Path | None, typer.Option(help="Write the figures here too.", metavar="FILE")]


def evaluate(
    model: Model,
    data: Data,
    split: Split = None,
    classes: Classes = None,
    crf: Crf = False,
    json: Json = None,
    format: DataFormat = None,
) -> None:
    """Compare a bundle's masks with true ones: without tags given, and with."""
    from training.evaluation.evaluate import evaluate, scored_photos
    from training.predict import Predictor

    predictor = Predictor.load(model)
    photos = load(data, split=split, format=format)
    chosen = listed(classes)
    total = len(scored_photos(photos, chosen or predictor.classes[1:]))
    with Bars().stage("segmenting", total) as advance:
        figures = evaluate(predictor, photos, classes=chosen, crf=CrfConfig() if crf else None, advance=advance)
    console.print(_score_table({"without tags": figures.without_tags, "with tags": figures.with_tags}))
    _write(json, figures.to_json())


def score(
    predictions: Annotated[Path, typer.Argument(help="Folder of mask PNGs.", metavar="PREDICTIONS")],
    truth: Annotated[Path, typer.Argument(help="Folder of true mask PNGs of the same names.", metavar="TRUTH")],
    classes_file: Annotated[Path, typer.Option(help="Names of the mask values, a line each, background first.")],
    json: Json = None,
) -> None:
    """PASCAL VOC mIoU between two folders of masks."""
    try:
        names = classes_file.read_text(encoding="utf-8").split()
    except OSError as fault:
        raise DataError(
            f"{classes_file}: cannot be read ({fault.strerror}); name a text file of class names"
        ) from fault
    figures = score_folders(predictions, truth, names)
    console.print(_score_table({"": figures}))
    if figures.missing:
        warn("not scored", f"{figures.missing} true masks have no prediction")
    _write(json, figures.to_json())


def _score_table(columns: dict[str, Scores]) -> Table:
    table = Table(title=f"IoU, {next(iter(columns.values())).photos} photos", title_justify="left")
    table.add_column("class")
    for name in columns:
        table.add_column(name, justify="right")
    for name in next(iter(columns.values())).iou:
        values = [scores.iou[name] for scores in columns.values()]
        if any(value is not None for value in values):
            table.add_row(name, *("-" if value is None else f"{value:.1f}" for value in values))
    table.add_section()
    table.add_row("mean", *("-" if scores.miou is None else f"{scores.miou:.1f}" for scores in columns.values()))
    return table


def _write(path: Path | None, figures: dict[str, object]) -> None:
    if path is not None:
        files.write_text(path, dumps(figures, indent=2) + "\n")
