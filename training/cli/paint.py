"""`tagmask segment` and `tagmask label`: masks by a bundle."""

from pathlib import Path
from typing import Annotated

import typer

from training.cli.data import Data, Split
from training.cli.measure import Crf, Model
from training.cli.terminal import Bars, console, errors, listed
from training.config import CrfConfig
from training.data import load
from training.data.photos import Fault

Out = Annotated[Path, typer.Option(help="Folder to write to.", metavar="DIR")]


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
    _tell(faults)
    console.print(f"{len(photos) - len(faults)} masks and overlays in {out}")
    if faults:
        raise typer.Exit(1)


def label(
    data: Data, model: Annotated[Path, typer.Option(help="A bundle.")], out: Out, split: Split = None, crf: Crf = False
) -> None:
    """Write a mask for every photo of a tagged data set, of its own tags alone."""
    from training.paint import label
    from training.predict import Predictor

    predictor = Predictor.load(model)
    photos = load(data, split=split)
    with Bars().stage("labelling", len(photos.photos)) as advance:
        done = label(predictor, photos, out, crf=CrfConfig() if crf else None, advance=advance)
    _tell(done.faults)
    console.print(f"{done.written} masks written, {done.kept} there already, in {out}")


def _tell(faults: list[Fault] | tuple[Fault, ...]) -> None:
    for fault in faults[:20]:
        errors.print(f"[yellow]left out:[/] {fault.where}: {fault.why}", highlight=False)
    if len(faults) > 20:
        errors.print(f"… and {len(faults) - 20} more")
