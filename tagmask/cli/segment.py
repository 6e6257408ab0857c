"""`tagmask segment`: masks of photos by a bundle."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tagmask.cli.terminal import Bars, listed, tell, warn_of
from tagmask.disk import writable
from tagmask.errors import DataError, Fault, TimedOut, TooLarge
from tagmask.inputs import MAX_PIXELS, Refine, check_tile
from tagmask.progress import Advance, silent
from tagmask.wording import count

if TYPE_CHECKING:
    from tagmask.result import Result
    from tagmask.segmenter import Segmenter

LIKELY = 0.1
"""Least probability of a tag that is suggested; `service/page/page.js` has the same."""

Crf = Annotated[bool, typer.Option("--crf", help="Refine masks by DenseCRF, which takes longer.")]


def segment(
    photos: Annotated[list[Path], typer.Argument(help="Photos, and folders of photos.", metavar="PHOTO|FOLDER…")],
    model: Annotated[
        Path | None, typer.Option(help="A bundle, model.onnx.", show_default="the animals that Tagmask comes with")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder to write to.", metavar="DIR")] = Path("masks"),
    tags: Annotated[
        str | None,
        typer.Option(help="What the photos show, separated by commas.", metavar="A,B,…", show_default="any class"),
    ] = None,
    crf: Crf = False,
    tile: Annotated[
        int | None,
        typer.Option(
            help="Segment larger photos in overlapping tiles of this side; 0: the whole photo at once.",
            metavar="PIXELS",
            show_default="what the model says",
        ),
    ] = None,
    max_pixels: Annotated[
        int, typer.Option(min=1, help="Refuse photos with more pixels.", metavar="PIXELS")
    ] = MAX_PIXELS,
) -> None:
    """Write a palette mask, and an overlay to look at, for each photo."""
    from tagmask.memory import return_large_blocks
    from tagmask.segmenter import PRETRAINED, Segmenter

    return_large_blocks()
    check_tile(tile)
    if model is None and len(photos) > 1 and photos[0].suffix == ".onnx":  # the form of before 2026-11-28
        model, *photos = photos
    if bundle := next((path for path in photos if path.suffix == ".onnx"), None):
        raise DataError(f"{bundle}: not a photo; name the model with --model {bundle}")
    outputs = plan_outputs(photos, out)
    with (
        Segmenter.load(model or PRETRAINED, max_pixels=max_pixels) as segmenter,
        writable(out),
        Bars().stage("segmenting", len(outputs)) as advance,
    ):
        refine: Refine = "crf" if crf else "smooth"
        faults, doubts, suggestions = segment_files(
            segmenter, outputs, tags=listed(tags) or (), refine=refine, tile=tile, advance=advance
        )
    warn_of("left out", faults)
    warn_of("doubtful", doubts)
    for photo, suggested in suggestions.items():
        tell(f"{photo}: suggested tags: {suggested}")
    tell(f"{count(len(outputs) - len(faults), 'photo')} segmented; masks and overlays are in {out}")
    if faults:
        raise typer.Exit(1)


def plan_outputs(paths: Sequence[Path], out: Path) -> dict[Path, Path]:
    """The mask to write for each photo: `out`/<stem>.png, and below `out` as in its folder for photos of a folder.

    Overlays are beside the masks (`overlay_path`). Raises DataError for a folder without photos, two photos that would
    share an output, and an output that would replace an input.
    """
    outputs: dict[Path, Path] = {}
    for path in dict.fromkeys(paths):
        if path.is_dir():
            below = {photo: out / photo.relative_to(path).with_suffix(".png") for photo in _photos_below(path, out)}
            if not below:
                raise DataError(f"{path}: no photos in this folder; name photos, or a folder that has some")
            outputs |= below
        else:
            outputs[path] = out / f"{path.stem}.png"
    check_replaces_no_photo((output for mask in outputs.values() for output in (mask, overlay_path(mask))), outputs)
    sources: dict[Path, Path] = {}
    for photo, mask in outputs.items():
        for output in (mask, overlay_path(mask)):
            other = sources.setdefault(output, photo)
            if other != photo:
                raise DataError(
                    f"{output}: would be written for both {other} and {photo}; rename one, or segment them separately"
                )
    return outputs


def check_replaces_no_photo(outputs: Iterable[Path], photos: Iterable[Path]) -> None:
    """Raise DataError for an output that would replace one of the `photos`."""
    from tagmask.files import real_path

    inputs = {real_path(photo) for photo in photos}
    if replaced := next((output for output in outputs if real_path(output) in inputs), None):
        raise DataError(f"{replaced}: would replace an input photo; choose another folder with --out")


def segment_files(
    segmenter: "Segmenter",
    outputs: dict[Path, Path],
    *,
    tags: Sequence[str] = (),
    refine: Refine = "smooth",
    tile: int | None = None,
    advance: Advance = silent,
) -> tuple[list[Fault], list[Fault], dict[Path, str]]:
    """Write the mask of each photo of `outputs`, and its overlay, as many photos at a time as there are cores.

    Returns the photos that cannot be read or exceed a limit, those whose masks have low confidence or lack a given tag,
    and the likely tags of each photo that are not given, if any, with their probabilities. Only background and `tags`,
    if any, can appear; `tile` is that of `Segmenter.segment`. `advance(1)` follows each photo, in order. Raises
    Unprocessable, before anything is written, for a tag that the model does not know.
    """
    from concurrent.futures import ThreadPoolExecutor

    from tagmask.cores import cores

    segmenter.labels_of(tags)

    def segment_file(photo: Path, mask: Path) -> tuple[Fault | None, Fault | None, str]:
        try:
            result = segmenter.segment(photo, tags, refine, formats=["overlay"], tile=tile)
        except (DataError, TooLarge, TimedOut) as fault:
            return Fault(str(photo), str(fault).removeprefix(f"{photo}: ")), None, ""
        _write(result, mask)
        doubtful = result.low_confidence or result.unpainted
        return None, Fault(str(photo), _doubt(result)) if doubtful else None, _suggestion(result, tags)

    faults, doubts = [], []
    suggestions: dict[Path, str] = {}
    with ThreadPoolExecutor(cores()) as threads:
        for photo, (fault, doubt, suggested) in zip(
            outputs, threads.map(segment_file, outputs, outputs.values()), strict=True
        ):
            faults += [fault] if fault else []
            doubts += [doubt] if doubt else []
            suggestions |= {photo: suggested} if suggested else {}
            advance(1)
    return faults, doubts, suggestions


def overlay_path(mask: Path) -> Path:
    """The overlay's path beside its mask."""
    return mask.with_name(f"{mask.stem}-overlay.png")


def _write(result: "Result", mask: Path) -> None:
    from tagmask import files

    for path, name in ((mask, "png"), (overlay_path(mask), "overlay")):
        files.write_bytes(path, result.answers[name])


def _doubt(result: "Result") -> str:
    unpainted = "".join(f", {name} is painted nowhere" for name in result.unpainted)
    return f"expected IoU {result.expected_iou:.2f}{unpainted}; look at its overlay"


def _suggestion(result: "Result", tags: Sequence[str]) -> str:
    """The likely tags that are not among `tags`, with their probabilities."""
    from tagmask.classes import find_class

    likely = {name: share for name, share in result.tags.items() if share >= LIKELY and find_class(name, tags) is None}
    return ", ".join(f"{name} ({likely[name]:.0%})" for name in sorted(likely, key=likely.__getitem__, reverse=True))


def _photos_below(folder: Path, out: Path) -> Iterator[Path]:
    """Photos at any depth of `folder`, without hidden files and what earlier calls wrote to a folder `out` in it.

    Raises DataError for a folder that cannot be read.
    """
    from tagmask.files import read_fault, real_path
    from tagmask.photos import PHOTO_SUFFIXES

    def refuse(fault: OSError) -> None:
        raise DataError(f"{fault.filename}: {read_fault(fault)}") from fault

    written = real_path(out)
    below = real_path(folder) in written.parents  # else the photos may lie below `out`
    found = (Path(parent, name) for parent, _, names in os.walk(folder, onerror=refuse) for name in names)
    for path in sorted(found):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        earlier = below and written in real_path(path).parents
        if path.suffix.lower() in PHOTO_SUFFIXES and not hidden and not earlier:
            yield path
