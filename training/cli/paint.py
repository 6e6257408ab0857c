"""`tagmask segment` and `tagmask label`: masks by a bundle."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from tagmask.cli.terminal import Bars, listed, tell, warn_left_out
from training.cli.data import Data, DataFormat, Split
from training.cli.measure import Crf, Model
from training.config import CrfConfig
from training.datasets import Format, load
from training.run.description import read_description
from training.run.layout import Layout

Out = Annotated[Path, typer.Option(help="Folder to write to.", metavar="DIR")]
Written = Literal["masks", "voc", "coco", "yolo", "label-studio", "cvat", "datumaro"]


def segment(
    model: Model,
    photos: Annotated[list[Path], typer.Argument(help="Photos.", metavar="PHOTO…")],
    out: Out,
    tags: Annotated[
        str | None, typer.Option(help="What the photos show, separated by commas; else any class.", metavar="A,B,…")
    ] = None,
    crf: Crf = False,
) -> None:
    """Write a palette mask and an overlay to look at for each photo."""
    from training.paint import segment_files
    from training.predict import Predictor

    predictor = Predictor.load(model)
    with Bars().stage("segmenting", len(photos)) as advance:
        faults = segment_files(
            predictor, photos, out, tags=listed(tags), crf=CrfConfig() if crf else None, advance=advance
        )
    warn_left_out(faults)
    tell(f"{len(photos) - len(faults)} masks and overlays in {out}")
    if faults:
        raise typer.Exit(1)


def label(
    data: Data,
    model: Annotated[Path, typer.Option(help="A bundle.")],
    out: Out,
    split: Split = None,
    crf: Crf = False,
    format: Annotated[
        Written, typer.Option(help="What to write: mask PNGs alone, or an import for other tools as well.")
    ] = "masks",
    data_format: Annotated[
        Format | None, typer.Option(help="What DATA is, where it does not show.", show_default="found out")
    ] = None,
) -> None:
    """Write a mask for every photo of a tagged data set, of its own tags alone."""
    from training.datasets import writers
    from training.paint import label
    from training.predict import Predictor

    predictor = Predictor.load(model)
    photos = load(data, split=split, format=data_format)
    masks = out if format == "masks" else out / "masks"
    with Bars().stage("labelling", len(photos.photos)) as advance:
        done = label(predictor, photos, masks, crf=CrfConfig() if crf else None, advance=advance)
    warn_left_out(done.faults)
    tell(f"{done.written} masks written, {done.kept} there already, in {masks}")
    if format != "masks":
        with Bars().stage(f"writing {format}", len(done.data.photos)) as advance:
            writers.write(done.data, out, format, subset=split or "train", advance=advance)
        tell(f"{len(done.data.photos)} photos for {format} in {out}")


def look(
    run: Annotated[Path, typer.Argument(help="Folder of a run, finished or not.", metavar="RUN")],
    data: Data,
    out: Out,
    split: Split = None,
    photos: Annotated[int, typer.Option(min=1, help="Number of photos, spread over the data set.")] = 12,
    format: DataFormat = None,
) -> None:
    """Write a picture for some photos: what each stage of each round made of them."""
    from PIL import Image

    from tagmask import files
    from training.report.panels import strip

    layout = Layout(run)
    asked = read_description(layout)
    tagged = load(data, split=split, classes=asked.classes, format=format)
    chosen = tagged.photos[:: max(1, len(tagged.photos) // photos)][:photos]
    with Bars().stage("drawing", len(chosen)) as advance:
        for photo in chosen:
            picture = strip(photo, layout, asked.settings, tagged.classes)
            files.write_png(out / f"{photo.id}.png", Image.fromarray(picture))
            advance(1)
    tell(f"{len(chosen)} pictures in {out}")
