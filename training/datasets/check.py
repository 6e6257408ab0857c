"""The whole data set looked at before anything is learned from it: every photo and mask decoded once, and a summary."""

import hashlib
import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tagmask.errors import DataError
from tagmask.masks import VOID, read_mask
from tagmask.photos import read_photo
from tagmask.progress import Advance, silent
from training.datasets.listing import shown
from training.datasets.photos import Fault, Photo, TaggedPhotos
from training.parallel import processes

BATCH = 32
"""Photos that a process looks at between two reports of progress."""

FAULTS_SHOWN = 20
"""Kinds of fault that the summary prints."""

_VARYING = re.compile(r"\d+|'[^']*'|\([^)]*\)")
"""Parts of a fault in which faults of one kind differ: numbers, quoted names, and what a decoder says."""


@dataclass(frozen=True)
class Report:
    """A data set that can be read to the last photo, and what it holds.

    `data` lacks the photos and masks that cannot be used; its faults name them. `tags_per_photo` counts photos by
    their number of learned tags. `long_sides` is the shortest, median and longest long side in pixels. `twins` pairs
    the id of a photo with the first id that has the same bytes; both stay in the data.
    """

    data: TaggedPhotos
    tags_per_photo: Mapping[int, int]
    long_sides: tuple[int, int, int]
    masks: int
    twins: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Seen:
    """What one photo turned out to be: its long side in pixels (0 if unreadable), content digest, and faults."""

    long_side: int = 0
    content: bytes = b""
    photo_fault: str | None = None
    mask_fault: str | None = None


def check(data: TaggedPhotos, *, workers: int, advance: Advance = silent) -> Report:
    """Decode every photo and mask of `data` in `workers` processes (1: in this one) and leave out what is unusable.

    `advance` is called with the number of photos done since its last call. Masks must be as large as their photo is
    displayed and hold values of `mask_classes` or VOID. Raises DataError if a class has no readable photo left.
    """
    photos, faults, twins = [], list(data.faults), []
    sides: list[int] = []
    first_id: dict[bytes, str] = {}
    for photo, seen in zip(data.photos, _look_at_all(data, workers, advance), strict=True):
        if seen.photo_fault:
            faults.append(Fault(_name(photo.path, data.root), seen.photo_fault))
            continue
        if seen.mask_fault and photo.mask:
            faults.append(Fault(_name(photo.mask, data.root), seen.mask_fault))
            photo = replace(photo, mask=None)
        photos.append(photo)
        sides.append(seen.long_side)
        same = first_id.setdefault(seen.content, photo.id)
        if same != photo.id:
            twins.append((photo.id, same))
    left = replace(data, photos=tuple(photos), faults=tuple(faults))
    _demand_photos(left)
    return Report(
        data=left,
        tags_per_photo=dict(sorted(Counter(len(photo.tags) for photo in photos).items())),
        long_sides=(min(sides), int(statistics.median_low(sides)), max(sides)),
        masks=sum(photo.mask is not None for photo in photos),
        twins=tuple(twins),
    )


def _look_at_all(data: TaggedPhotos, workers: int, advance: Callable[[int], None]) -> Iterator[_Seen]:
    """What each photo is, in order; only paths and results travel between processes."""
    batches = [data.photos[start : start + BATCH] for start in range(0, len(data.photos), BATCH)]
    values = [len(data.mask_classes)] * len(batches)
    workers = min(workers, len(batches))
    if workers <= 1:
        yield from _reported(map(_look, batches, values), advance)
    else:
        with processes(workers) as pool:
            yield from _reported(pool.map(_look, batches, values), advance)


def _reported(batches: Iterable[Sequence[_Seen]], advance: Callable[[int], None]) -> Iterator[_Seen]:
    for batch in batches:
        advance(len(batch))
        yield from batch


def _look(photos: Sequence[Photo], mask_values: int) -> list[_Seen]:
    return [_look_at(photo, mask_values) for photo in photos]


def _look_at(photo: Photo, mask_values: int) -> _Seen:
    try:
        height, width = read_photo(photo.path).shape[:2]
        content = hashlib.sha256(photo.path.read_bytes()).digest()
    except DataError as fault:
        return _Seen(photo_fault=str(fault).removeprefix(f"{photo.path}: "))
    except OSError as fault:
        return _Seen(photo_fault=f"cannot be read ({fault.strerror}); make it readable or remove it")
    mask_fault = _mask_fault(photo.mask, (height, width), mask_values) if photo.mask else None
    return _Seen(max(height, width), content, mask_fault=mask_fault)


def _mask_fault(path: Path, size: tuple[int, int], values: int) -> str | None:
    """Why a mask cannot measure a photo of `size` (height, width) in pixels, or None."""
    try:
        mask = read_mask(path)
    except DataError as fault:
        return str(fault).removeprefix(f"{path}: ")
    if mask.shape != size:
        its, photo = (f"{width}x{height}" for height, width in (mask.shape, size))
        return f"mask of {its} pixels for a photo of {photo}; make them equal, or remove the mask"
    counts = np.bincount(mask.ravel(), minlength=VOID + 1)
    if counts[values:VOID].any():
        value = values + int(counts[values:VOID].argmax())
        return f"mask value {value}, only 0 to {values - 1} have a class and {VOID} is void; correct the mask"
    return None


def _demand_photos(data: TaggedPhotos) -> None:
    for name, photos in data.photos_per_class().items():
        if not photos:
            first = f" (first fault: {data.faults[0].where}: {data.faults[0].why})" if data.faults else ""
            raise DataError(
                f"{data.root}: class {name!r} has no readable photo left{first}; "
                "replace its photos or leave the class out with --classes"
            )


def _name(path: Path, root: Path) -> str:
    return shown(str(path.relative_to(root) if path.is_relative_to(root) else path))


def render(report: Report, console: Console, *, bytes_per_photo: int) -> None:
    """Print the report: photos a class, tags a photo, sizes, masks, faults by kind, and the disk a training run takes.

    `bytes_per_photo` is the disk space in bytes that a training run takes for each photo.
    """
    data, photos = report.data, len(report.data.photos)
    console.print(Text.assemble((str(data.root), "bold"), f"  {photos:,} photos, {len(data.classes)} classes"))
    console.print(_class_table(data))
    counts = report.tags_per_photo.items()
    shortest, median, longest = report.long_sides
    lines = {
        "tags a photo": "   ".join(f"{tags}: {number:,} ({number / photos:.0%})" for tags, number in counts),
        "long side": f"{shortest} to {longest} px, median {median}",
        "masks": f"{report.masks:,} (for measuring only)" if report.masks else "none",
        "disk": f"a training run takes about {_size(photos * bytes_per_photo)}, {_size(bytes_per_photo)} a photo",
    }
    for name, line in lines.items():
        console.print(Text.assemble((f"{name:<14}", "dim"), line))
    if report.twins:
        pairs = ", ".join(f"{one} = {other}" for one, other in report.twins[:3])
        more = ", …" if len(report.twins) > 3 else ""
        line = f"{len(report.twins):,} repeated photos, equal to the byte ({pairs}{more}); kept"
        console.print(Text.assemble((f"{'warning':<14}", "yellow"), line))
    _render_faults(data.faults, console)


def _class_table(data: TaggedPhotos) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("class")
    table.add_column("photos", justify="right")
    table.add_column("")
    per_class = data.photos_per_class()
    most = max(per_class.values())
    for name, number in per_class.items():
        table.add_row(Text(name), f"{number:,}", Text("━" * max(1, round(24 * number / most)), style="cyan"))
    return table


def _render_faults(faults: Sequence[Fault], console: Console) -> None:
    if not faults:
        console.print(Text("no faults", style="green"))
        return
    console.print(Text(f"{len(faults):,} faults", style="yellow"))
    kinds: dict[str, list[Fault]] = {}
    for fault in faults:
        kinds.setdefault(_VARYING.sub("", fault.why), []).append(fault)
    ordered = sorted(kinds.values(), key=len, reverse=True)
    grid = Table(box=None, show_header=False, pad_edge=False)
    grid.add_column(justify="right")
    grid.add_column(overflow="fold", ratio=2)
    grid.add_column(overflow="fold", style="dim", ratio=1)
    for alike in ordered[:FAULTS_SHOWN]:
        places = ", ".join(fault.where for fault in alike[:3])
        grid.add_row(f"{len(alike):,}", Text(alike[0].why), Text(places + (", …" if len(alike) > 3 else "")))
    console.print(grid)
    if rest := sum(map(len, ordered[FAULTS_SHOWN:])):
        console.print(Text(f"… and {rest:,} more", style="dim"))


def _size(count: float) -> str:
    """`count` bytes in words."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB"
