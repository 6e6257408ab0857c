"""`tagmask data`: check tagged photos before training."""

from pathlib import Path
from typing import Annotated

import typer

from tagmask.cli.terminal import Bars, console, listed
from tagmask.cores import cores
from training.datasets import Format, load
from training.datasets.check import check as check_photos
from training.datasets.check import render
from training.run.layout import BYTES_PER_PHOTO

app = typer.Typer(help="Check tagged photos.", no_args_is_help=True)

Data = Annotated[
    list[Path],
    typer.Argument(
        help="Tagged photos, one or more data sets: a folder per class, a CSV or JSONL list, VOC, YOLO, COCO, the "
        "service's inbox, or an export of Label Studio, CVAT or Datumaro.",
        metavar="DATA…",
    ),
]
Split = Annotated[str | None, typer.Option(help="Only the photos of this split.")]
DataFormat = Annotated[Format | None, typer.Option("--format", help="Format of DATA.", show_default="detected")]
Classes = Annotated[
    str | None, typer.Option(help="Comma-separated classes to use; other tags are ignored.", metavar="A,B,…")
]


@app.command()
def check(data: Data, split: Split = None, classes: Classes = None, format: DataFormat = None) -> None:
    """Decode every photo, count photos per tag, and list what cannot be used."""
    photos = load(data, split=split, classes=listed(classes), format=format)
    with Bars().stage("checking photos", len(photos.photos)) as advance:
        report = check_photos(photos, workers=cores(), advance=advance)
    render(report, console, bytes_per_photo=BYTES_PER_PHOTO)
