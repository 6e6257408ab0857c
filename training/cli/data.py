"""`tagmask data`: look at tagged photos before learning from them."""

from pathlib import Path
from typing import Annotated

import typer

from examples.demo.drawing import make_demo_photos
from tagmask.cli.terminal import Bars, console, listed, tell
from tagmask.cores import cores
from training.datasets import Format, load
from training.datasets.check import check as check_photos
from training.datasets.check import render
from training.run.layout import BYTES_PER_PHOTO

app = typer.Typer(help="Look at tagged photos.", no_args_is_help=True)

Data = Annotated[
    list[Path],
    typer.Argument(
        help="Tagged photos, one data set or several: VOC, a folder a class, a CSV or JSONL list, the service's inbox, "
        "or an export in COCO's, Label Studio's, CVAT's or Datumaro's format.",
        metavar="DATA…",
    ),
]
Split = Annotated[str | None, typer.Option(help="Only the photos of this split.")]
DataFormat = Annotated[
    Format | None, typer.Option("--format", help="What DATA is, where it does not show.", show_default="found out")
]
Classes = Annotated[
    str | None, typer.Option(help="Learn only these tags, separated by commas; others are ignored.", metavar="A,B,…")
]


@app.command()
def check(data: Data, split: Split = None, classes: Classes = None, format: DataFormat = None) -> None:
    """Count photos and tags, and name every fault."""
    photos = load(data, split=split, classes=listed(classes), format=format)
    with Bars().stage("looking at photos", len(photos.photos)) as advance:
        report = check_photos(photos, workers=cores(), advance=advance)
    render(report, console, bytes_per_photo=BYTES_PER_PHOTO)


@app.command()
def demo(
    out: Annotated[Path, typer.Argument(help="Folder to write to.", metavar="OUT")],
    photos: Annotated[int, typer.Option(min=8, max=100_000, help="Number of photos.")] = 240,
    seed: Annotated[int, typer.Option(min=0, help="What the pictures are drawn from.")] = 0,
) -> None:
    """Draw a small tagged data set, with hidden masks to measure against."""
    with Bars().stage("drawing photos", photos) as advance:
        make_demo_photos(out, photos=photos, seed=seed, advance=advance)
    tell(f"{photos} tagged photos in {out}")
