"""`tagmask label`: masks of a tagged data set, predicted by a bundle."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from tagmask.cli.segment import Crf
from tagmask.cli.terminal import Bars, listed, tell, warn_of
from tagmask.disk import writable
from tagmask.errors import DataError
from tagmask.wording import count
from training.choices import Format, OutputFormat, names
from training.cli.data import FORMAT_OF_DATA, Data, Nothing, Split

Out = Annotated[Path, typer.Option(help="Folder to write to.", metavar="DIR")]
Written = Literal["masks", OutputFormat]


def label(
    data: Data,
    model: Annotated[Path, typer.Option(help="A bundle.")],
    out: Out,
    split: Split = None,
    none: Nothing = None,
    crf: Crf = False,
    photos: Annotated[bool, typer.Option("--photos", help="Copy the photos too, whatever the format.")] = False,
    format: Annotated[
        Written,
        typer.Option(
            help=f"masks: mask PNGs only; or also files for another tool: {names(OutputFormat)}.", metavar="FORMAT"
        ),
    ] = "masks",
    data_format: Annotated[
        Format | None, typer.Option(help=FORMAT_OF_DATA, metavar="FORMAT", show_default="detected")
    ] = None,
) -> None:
    """Write a mask for each photo of a tagged data set, limited to the photo's own tags."""
    from tagmask.segmenter import Segmenter
    from training.datasets import load
    from training.datasets.label import label
    from training.datasets.writing import check_names, check_own_folder, write

    if photos and format == "masks":
        raise DataError("--photos: only files for another tool have photos beside them; name the tool with --format")
    tagged = load(data, split=split, none=listed(none), format=data_format)
    masks = out if format == "masks" else out / "masks"
    with Segmenter.load(model) as segmenter, writable(out):
        if format != "masks":
            check_names(replace(tagged, mask_classes=segmenter.classes), format)
            check_own_folder(tagged, out, "masks/classes.txt")
        with Bars().stage("labelling", len(tagged.photos)) as advance:
            done = label(segmenter, tagged, masks, refine="crf" if crf else "none", advance=advance)
    warn_of("left out", done.faults)
    tell(f"{count(done.written, 'mask')} written, {done.kept:,} kept from before, in {masks}")
    if format != "masks":
        with writable(out), Bars().stage(f"writing {format}", len(done.data.photos)) as advance:
            write(done.data, out, format, subset=split or "train", photos=photos, advance=advance)
        tell(f"{count(len(done.data.photos), 'photo')} for {format} in {out}")
