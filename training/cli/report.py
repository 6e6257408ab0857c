"""`tagmask report`: a run in one HTML file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tagmask.cli.terminal import Bars, listed, tell, warn
from tagmask.cores import cores
from tagmask.disk import writable
from tagmask.errors import DataError
from training.choices import Format
from training.cli.data import DataFormat, Nothing, Split

if TYPE_CHECKING:
    from training.datasets.photos import TaggedPhotos
    from training.run.layout import Layout

Run = Annotated[Path, typer.Argument(help="Folder of a run, finished or not.", metavar="RUN")]
RunData = Annotated[
    list[Path] | None, typer.Argument(help="Photos of the run, if it has not recorded them.", metavar="[DATA…]")
]


def report(
    run: Run,
    data: RunData = None,
    split: Split = None,
    none: Nothing = None,
    val: Annotated[str | None, typer.Option(help="Also evaluate on this split with masks.", metavar="SPLIT")] = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write.", metavar="FILE.html", show_default="RUN/report.html")
    ] = None,
    photos: Annotated[int, typer.Option(min=1, help="Maximum number of photos to show.")] = 24,
    workers: Annotated[int | None, typer.Option(min=1, help="Number of processes.", show_default="cores")] = None,
    format: DataFormat = None,
) -> None:
    """Write a report of a run as one HTML file: data, quality, time, and some photos stage by stage."""
    from training.report import write_report
    from training.report.validation import validate
    from training.run.layout import Layout

    layout = Layout(run)
    tagged = read_run_photos(layout, data, split, none, format)
    validation = None
    if val is not None:
        validation = validate(layout, _with_masks(run, data, tagged, val, format), val, Bars())
    if tagged is None:
        warn("incomplete", f"{run} has not recorded its photos; name them: tagmask report RUN DATA")
    path = out or layout.report
    with writable(path):
        write_report(
            layout, path, tagged, validation=validation, photos=photos, workers=workers or cores(), progress=Bars()
        )
    tell(f"{path}, {path.stat().st_size / 1e6:.1f} MB")


def read_run_photos(
    layout: "Layout", data: list[Path] | None, split: str | None, none: str | None, format: Format | None
) -> "TaggedPhotos | None":
    """The photos of a run among `data`, or else those that it has recorded, if it has. Raises RunError for no run."""
    from training.datasets import load
    from training.report import photos_of
    from training.run.description import read_description, read_photos

    classes = read_description(layout).classes
    if not data:
        return read_photos(layout)
    return photos_of(layout, load(data, split=split, classes=classes, none=listed(none), format=format))


def _with_masks(
    run: Path, data: list[Path] | None, tagged: "TaggedPhotos | None", val: str, format: Format | None
) -> "TaggedPhotos":
    """The split `val` of `data`, or else of the folder that the run's photos are from."""
    from training.datasets import load

    remedy = f"--val {val}: name the data set that has this split: tagmask report {run} DATA --val {val}"
    if data:
        return load(data, split=val, format=format)
    if tagged is None:
        raise DataError(remedy)
    try:
        return load(tagged.root, split=val, format=format)
    except DataError as fault:  # photos of several data sets have no common folder
        raise DataError(f"{remedy} ({fault})") from fault
