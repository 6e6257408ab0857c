"""`tagmask evaluate` and `tagmask score`: quality of masks."""

from json import dumps
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table
from rich.text import Text

from tagmask.cli.segment import Crf
from tagmask.cli.terminal import Bars, listed, show, warn
from tagmask.disk import writable
from tagmask.scores import Scores
from tagmask.wording import count
from training.cli.data import Classes, Data, DataFormat, Nothing, Split

Json = Annotated[Path | None, typer.Option(help="Also write the figures to this file.", metavar="FILE")]


def evaluate(
    model: Annotated[Path, typer.Argument(help="A bundle, model.onnx.", metavar="MODEL")],
    data: Data,
    split: Split = None,
    classes: Classes = None,
    none: Nothing = None,
    crf: Crf = False,
    json: Json = None,
    format: DataFormat = None,
) -> None:
    """Compare a bundle's masks with true masks: without tags, and with each photo's tags."""
    from tagmask.segmenter import Segmenter
    from training.datasets import load
    from training.evaluation.evaluate import evaluate

    with Segmenter.load(model) as segmenter:
        photos = load(data, split=split, none=listed(none), format=format)
        crf_config = segmenter.crf if crf else None
        figures = evaluate(segmenter, photos, classes=listed(classes), crf=crf_config, progress=Bars())
    show(score_table({"without tags": figures.without_tags, "with tags": figures.with_tags}))
    _write(json, figures.to_json())


def score(
    predictions: Annotated[Path, typer.Argument(help="Folder of mask PNGs.", metavar="PREDICTIONS")],
    truth: Annotated[Path, typer.Argument(help="Folder of true mask PNGs of the same names.", metavar="TRUTH")],
    classes_file: Annotated[Path, typer.Option(help="Names of the mask values, one per line, background first.")],
    json: Json = None,
) -> None:
    """Compute the PASCAL VOC mIoU between two folders of masks."""
    from training.datasets.listing import read_mask_classes
    from training.evaluation.metrics import score_folders

    figures = score_folders(predictions, truth, read_mask_classes(classes_file))
    show(score_table({"": figures}))
    if figures.missing:
        warn("not scored", f"{count(figures.missing, 'true mask')} without a prediction")
    _write(json, figures.to_json())


def score_table(columns: dict[str, Scores]) -> Table:
    """A column of IoU for each of several scores of the same photos."""
    title = f"IoU, {count(next(iter(columns.values())).photos, 'photo')}"
    figures = (Column(name, justify="right") for name in columns)
    table = Table("class", *figures, title=title, title_justify="left")
    for name in next(iter(columns.values())).iou:
        values = [scores.iou[name] for scores in columns.values()]
        if any(value is not None for value in values):
            table.add_row(Text(name), *("-" if value is None else f"{value:.1f}" for value in values))
    table.add_section()
    table.add_row("mean", *("-" if scores.miou is None else f"{scores.miou:.1f}" for scores in columns.values()))
    return table


def _write(path: Path | None, figures: dict[str, object]) -> None:
    from tagmask import files

    if path is not None:
        with writable(path):
            files.write_text(path, dumps(figures, indent=2) + "\n")
