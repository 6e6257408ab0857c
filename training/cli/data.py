"""`tagmask data`: check tagged photos before training, find tags that may be wrong, and photos worth a correction."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column, Table
from rich.text import Text

from tagmask.cli.terminal import Bars, console, listed, show, tell, warn_of
from tagmask.cores import cores
from tagmask.disk import writable
from tagmask.errors import RunError
from tagmask.inputs import local_path
from tagmask.wording import count, printable
from training.choices import Format, names
from training.run.layout import BYTES_PER_PHOTO

if TYPE_CHECKING:
    from tagmask.segmenter import Segmenter
    from training.datasets.photos import TaggedPhotos
    from training.evaluation.audit import Audit
    from training.evaluation.suggestion import Suggestion
    from training.report.story import Story
    from training.run.layout import Layout

SUSPICIONS_SHOWN = 40
"""Most suspicions that are printed as a table."""

_AUDIT, _SUGGESTIONS = "audit.html", "suggestions.html"  # pages in a folder

app = typer.Typer(help="Check tagged photos, and list what is worth correcting.", no_args_is_help=True)

Data = Annotated[
    list[str],
    typer.Argument(
        help="Tagged photos, one or more data sets: a folder per class, a CSV or JSON list, VOC, YOLO, COCO, the "
        "service's inbox, or an export of Label Studio, CVAT or Datumaro.",
        metavar="DATA…",
    ),
]
Split = Annotated[str | None, typer.Option(help="Only the photos of this split.")]
FORMAT_OF_DATA = f"Format of DATA: {names(Format)}."
DataFormat = Annotated[
    Format | None, typer.Option("--format", help=FORMAT_OF_DATA, metavar="FORMAT", show_default="detected")
]
Classes = Annotated[
    str | None, typer.Option(help="Comma-separated classes to use; other tags are ignored.", metavar="A,B,…")
]
Nothing = Annotated[
    str | None,
    typer.Option("--none", help="Comma-separated tags, or folders, of photos that show no class.", metavar="A,B,…"),
]
Corrections = Annotated[
    str | None,
    typer.Option(
        help="Pixels to learn from as truth: a folder of mask PNGs called like the photos, with classes.txt, an inbox, "
        "or masks and outlines as VOC, COCO, CVAT, Datumaro, YOLO or Label Studio have them.",
        metavar="SOURCE",
    ),
]

Accepted = Annotated[
    bool,
    typer.Option("--accepted", help="Let predictions that people accepted unchanged in Label Studio be corrections."),
]

Hints = Annotated[
    str | None,
    typer.Option(
        help="Masks that another model made, used where they agree with the tags; read as --corrections are.",
        metavar="SOURCE",
    ),
]


@app.command()
def check(
    data: Data,
    split: Split = None,
    classes: Classes = None,
    none: Nothing = None,
    format: DataFormat = None,
    corrections: Corrections = None,
    accepted: Accepted = False,
    hints: Hints = None,
) -> None:
    """Decode every photo, count photos per tag, and list what cannot be used."""
    from training.datasets import load
    from training.datasets.check import check, render

    photos = load(
        data, split=split, classes=listed(classes), none=listed(none), format=format, corrections=corrections,
        accepted=accepted, hints=hints,
    )  # fmt: skip
    with Bars().stage("checking photos", len(photos.photos)) as advance:
        report = check(photos, workers=cores(), advance=advance)
    render(report, console, bytes_per_photo=BYTES_PER_PHOTO)


@app.command()
def audit(
    data: Data,
    model: Annotated[Path, typer.Option(help="A bundle, model.onnx.")],
    split: Split = None,
    classes: Annotated[
        str | None, typer.Option(help="Comma-separated classes to examine.", metavar="A,B,…", show_default="all")
    ] = None,
    none: Nothing = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Page to write, with pictures; or folder for the page and tasks of Label Studio.",
            metavar="FILE.html|DIR",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the score of every tag, as JSON Lines.")] = False,
    format: DataFormat = None,
) -> None:
    """List tags that may be wrong or missing, by what a model sees in the photos, the most doubtful first."""
    from tagmask.segmenter import Segmenter
    from training.datasets import load
    from training.datasets.writing import check_own_folder
    from training.evaluation.audit import audit

    photos = load(data, split=split, none=listed(none), format=format)
    if out is not None and not _is_page(out):
        check_own_folder(photos, out, _AUDIT)
    with Segmenter.load(model) as segmenter:
        with Bars().stage("examining photos", len(photos.photos)) as advance:
            found = audit(segmenter, photos, classes=listed(classes), advance=advance)
        warn_of("left out", found.faults)
        _print_audit(found, json)
        if out is not None:
            _write_audit(found, segmenter, photos, out)
            if not json:
                tell(f"written to {out}")


def _is_page(out: Path) -> bool:
    """Whether a page is to be written, and not a folder."""
    return local_path(out).suffix.lower() in (".html", ".htm")


def _write_audit(found: "Audit", segmenter: "Segmenter", data: "TaggedPhotos", out: Path) -> None:
    from training.datasets.label_studio import TagReview, write_reviews
    from training.evaluation.audit import suggested_tags
    from training.report.audit import PHOTOS, write_page

    alone = _is_page(out)
    with writable(out), Bars().stage("drawing", min(len(found.suspects), PHOTOS)) as advance:
        write_page(found, segmenter, data.root.name, out if alone else out / _AUDIT, advance=advance)
    if not alone:
        reviews = (
            TagReview(photo, suggested_tags(photo, each), "; ".join(f"{one.tag}: {one}" for one in each), each[0].score)
            for photo, each in found.suspects.items()
        )
        classes = sorted({*data.respelled(segmenter.classes).classes, *segmenter.classes[1:]})
        with writable(out):
            write_reviews(reviews, out, root=data.root, classes=classes, model=segmenter.version)


def _print_audit(found: "Audit", json: bool) -> None:
    from json import dumps

    from training.report.audit import PHOTOS

    if json:
        for each in found.findings:
            typer.echo(dumps(each.to_json()))
        return
    table = Table("photo", "tag", "suspicion", Column("score", justify="right"), box=None, header_style="dim")
    for each in found.suspicions[:SUSPICIONS_SHOWN]:
        cells = each.photo.id, each.tag, str(each), f"{each.score:.2f}"
        table.add_row(*(Text(printable(cell)) for cell in cells))
    if found.suspicions:
        show(table)
    if (rest := len(found.suspicions) - SUSPICIONS_SHOWN) > 0:
        tell(f"… and {rest:,} more; --json has all, and --out the first {PHOTOS:,} photos")
    tell(f"{count(len(found.suspects), 'photo')} of {found.photos:,} with tags that may be wrong")


@app.command()
def suggest(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.", metavar="RUN")],
    count: Annotated[int, typer.Option(min=1, help="Number of photos.")] = 20,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Page to write, with pictures; or folder for the page and tasks of Label Studio, masks filled in.",
            metavar="FILE.html|DIR",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the photos as JSON Lines.")] = False,
) -> None:
    """List the photos of a run to correct first: those that are typical of many photos with doubtful masks."""
    from training.datasets.writing import check_own_folder
    from training.evaluation.suggestion import suggest
    from training.report.story import read_story
    from training.run.description import read_photos
    from training.run.layout import Layout

    layout = Layout(run)
    story, data = read_story(layout), read_photos(layout)
    if story.exported is None or data is None:
        raise RunError(f"{run}: not finished, or without a record of its photos; finish it by tagmask train --resume")
    if out is not None and not _is_page(out):
        check_own_folder(data, out, _SUGGESTIONS)
    with Bars().stage("reading masks", sum(bool(photo.tags) for photo in data.photos)) as advance:
        held_out = story.description.held_out
        found = suggest(data, run, story.exported, count, corrected=held_out, advance=advance)
    _print_suggestions(found, json)
    if out is not None:
        _write_suggestions(found, data, layout, story, out)
        if not json:
            tell(f"written to {out}")


def _write_suggestions(
    found: "Sequence[Suggestion]", data: "TaggedPhotos", layout: "Layout", story: "Story", out: Path
) -> None:
    from tagmask.segmenter import Segmenter
    from training.datasets.label import label
    from training.datasets.writing import write
    from training.report.suggestions import write_page

    alone = _is_page(out)
    with writable(out), Bars().stage("drawing", len(found)) as advance:
        write_page(found, layout, story, out if alone else out / _SUGGESTIONS, advance=advance)
    if not alone:
        chosen = replace(data, photos=tuple(each.photo for each in found))
        with Segmenter.load(layout.model) as segmenter, writable(out):
            write(label(segmenter, chosen, out / "masks").data, out, "label-studio")


def _print_suggestions(found: "Sequence[Suggestion]", json: bool) -> None:
    from json import dumps

    if json:
        for each in found:
            typer.echo(dumps(each.to_json()))
        return
    figures = (Column(name, justify="right") for name in ("expected IoU", "agreement"))
    table = Table("photo", "tag", *figures, box=None, header_style="dim")
    for each in found:
        for number, (name, doubt) in enumerate(each.classes.items()):
            cells = "" if number else each.photo.id, name, f"{doubt.expected_iou:.2f}", f"{doubt.agreement:.2f}"
            table.add_row(*(Text(printable(cell)) for cell in cells))
    if found:
        show(table)
    tell(f"{count(len(found), 'photo')} to correct")
