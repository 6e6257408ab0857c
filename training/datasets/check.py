"""A data set checked before training: every photo and mask decoded once, and a summary."""

import hashlib
import re
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from tagmask import files
from tagmask.classes import class_key, spell
from tagmask.corrections import Correction
from tagmask.errors import DataError, Fault
from tagmask.masks import VOID, read_mask
from tagmask.photos import read_photo
from tagmask.progress import Advance, silent
from tagmask.wording import count, printable, some
from training.datasets.parallel import map_in_order
from training.datasets.photos import FOREGROUND, Photo, TaggedPhotos

BATCH = 32
"""Photos for which a process is worth starting."""

FAULTS_SHOWN = 20
"""Most kinds of fault that the summary prints."""

_VARYING = re.compile(r"\d+|'[^']*'|\([^)]*\)")
"""Parts of a fault in which faults of one kind differ: numbers, quoted names, and messages of decoders."""

_CONTRAST = 16
"""Difference of the greatest and the least value of a photo, of 255, below which it is almost of one colour."""

_NOTHING = re.compile(
    r"good|ok|okay|normal|healthy|clean|none|nothing|empty|negatives?|(no|non|not)-.+|.+-free|"
    r"nan|null|n[/.]?a|-+"  # missing values, as other programs write them
)
"""What classes are called, by their keys, that may stand for photos that show nothing."""


@dataclass(frozen=True)
class Report:
    """The usable part of a data set, and its statistics.

    `data` lacks the photos and masks that cannot be used; its faults name them. `tags_per_photo` counts photos by
    their number of learned tags. `long_sides` is the shortest, median and longest long side in pixels. `duplicates`
    pairs the id of a photo with the first id that has the same bytes; both stay in the data. `corrected` and `hinted`
    count by class the photos whose correction, or hint, shows it. `flat` are the ids of photos that are almost of one
    colour.
    """

    data: TaggedPhotos
    tags_per_photo: Mapping[int, int]
    long_sides: tuple[int, int, int]
    masks: int
    duplicates: tuple[tuple[str, str], ...]
    corrected: Mapping[str, int] = field(default_factory=dict)
    hinted: Mapping[str, int] = field(default_factory=dict)
    flat: tuple[str, ...] = ()

    @property
    def warnings(self) -> Iterator[str]:
        """Of classes that may stand for photos that show nothing, and of photos of one colour, with the remedies."""
        if names := [name for name in self.data.classes if _NOTHING.fullmatch(class_key(name))]:
            yield f"{', '.join(names)}: learned as a class; if such photos show nothing, add --none {','.join(names)}"
        if self.flat:
            what = f"{count(len(self.flat), 'photo')} of almost one colour ({some(self.flat, 3)})"
            yield f"{what}; if it is grey of 16 bits with small values, scale these to 0 to 65,535, else remove it"


@dataclass(frozen=True)
class _PhotoCheck:
    """One photo: its (height, width) in pixels (0 if unreadable), content digest, faults, and whether it is flat."""

    size: tuple[int, int] = (0, 0)
    content: bytes = b""
    photo_fault: str | None = None
    mask_fault: str | None = None
    flat: bool = False


def check(data: TaggedPhotos, *, workers: int, advance: Advance = silent) -> Report:
    """Decode every photo and mask of `data` in `workers` processes (1: in this one); leave out what cannot be used.

    `advance` is called with the number of photos done since its last call. Masks must be as large as their photo is
    displayed and hold values of `mask_classes` or VOID. Raises DataError if a class has no readable photo left.
    """
    photos, faults, duplicates, flat = [], list(data.faults), [], []
    sides: list[int] = []
    first_id: dict[bytes, str] = {}
    work = partial(_check_photo, mask_values=len(data.mask_classes))
    workers = min(workers, ceil(len(data.photos) / BATCH))
    results = map_in_order(work, data.photos, workers=workers, advance=advance)
    for photo, checked in zip(data.photos, results, strict=True):
        if checked.photo_fault:
            faults.append(Fault(_name(photo.path, data.root), checked.photo_fault))
            continue
        if checked.mask_fault and photo.mask:
            faults.append(Fault(_name(photo.mask, data.root), checked.mask_fault))
            photo = replace(photo, mask=None)
        for noun, mask in {"correction": photo.correction, "hint": photo.hint}.items():
            if mask and (fault := mask.size_fault(checked.size)):
                faults.append(Fault(_name(photo.path, data.root), f"its {noun} is ignored, as {fault}"))
                ignored: dict[str, Any] = {noun: None}
                photo = replace(photo, **ignored)
        photos.append(photo)
        sides.append(max(checked.size))
        flat += [photo.id] if checked.flat else []
        same = first_id.setdefault(checked.content, photo.id)
        if same != photo.id:
            duplicates.append((photo.id, same))
    left = replace(data, photos=tuple(photos), faults=tuple(faults))
    _demand_photos(left)
    hinted = _shown([photo.hint for photo in photos if photo.hint], (*left.classes, FOREGROUND))
    return Report(
        data=left,
        tags_per_photo=dict(sorted(Counter(len(photo.tags) for photo in photos).items())),
        long_sides=(min(sides), int(statistics.median_low(sides)), max(sides)),
        masks=sum(photo.mask is not None for photo in photos),
        duplicates=tuple(duplicates),
        corrected=_shown([photo.correction for photo in photos if photo.correction], left.classes),
        hinted={name: number for name, number in hinted.items() if number or name in left.classes},
        flat=tuple(flat),
    )


def _shown(masks: Sequence[Correction], classes: Sequence[str]) -> dict[str, int]:
    """How many of `masks` show each class, in the order of classes; empty without masks."""
    shown = [spell(mask.shown, classes) for mask in masks]
    return {name: sum(name in names for names in shown) for name in classes} if shown else {}


def _check_photo(photo: Photo, mask_values: int) -> _PhotoCheck:
    try:
        pixels = read_photo(photo.path)
        height, width = pixels.shape[:2]
        content = hashlib.sha256(files.read_bytes(photo.path)).digest()
    except DataError as fault:
        return _PhotoCheck(photo_fault=str(fault).removeprefix(f"{photo.path}: "))
    except OSError as fault:
        return _PhotoCheck(photo_fault=files.read_fault(fault))
    mask_fault = _mask_fault(photo.mask, (height, width), mask_values) if photo.mask else None
    return _PhotoCheck((height, width), content, mask_fault=mask_fault, flat=int(np.ptp(pixels)) < _CONTRAST)


def _mask_fault(path: Path, size: tuple[int, int], values: int) -> str | None:
    """Why a mask cannot be used for a photo of `size` (height, width) in pixels, or None."""
    try:
        mask = read_mask(path)
    except DataError as fault:
        return str(fault).removeprefix(f"{path}: ")
    if mask.shape != size:
        return f"mask of {_pixels(mask.shape)} pixels for a photo of {_pixels(size)}; resize or remove the mask"
    counts = np.bincount(mask.ravel(), minlength=VOID + 1)
    if counts[values:VOID].any():
        value = values + int(counts[values:VOID].argmax())
        return f"mask value {value}; valid are 0 to {values - 1}, and {VOID} for void; correct the mask"
    return None


def _pixels(size: tuple[int, ...]) -> str:
    """A (height, width) as it is written: "640x480"."""
    height, width = size
    return f"{width}x{height}"


def _demand_photos(data: TaggedPhotos) -> None:
    for name, photos in data.photos_per_class().items():
        if not photos:
            first = f" (first fault: {data.faults[0].where}: {data.faults[0].why})" if data.faults else ""
            raise DataError(
                f"{data.name}: class {name!r} has no readable photo left{first}; "
                "replace its photos or leave the class out with --classes"
            )


def _name(path: Path, root: Path) -> str:
    return printable(str(path.relative_to(root) if path.is_relative_to(root) else path))


def render(report: Report, console: Console, *, bytes_per_photo: int) -> None:
    """Print the report: layout, photos per class, tags per photo, sizes, masks, disk use of a training run, and faults.

    `bytes_per_photo` is the disk space in bytes that a training run uses per photo.
    """
    data, photos = report.data, len(report.data.photos)
    title = f"  {data.layout}: {count(photos, 'photo')}, {count(len(data.classes), 'class')}"
    nothing = report.tags_per_photo.get(0, 0)
    if nothing:
        title += f", {nothing:,} {'shows' if nothing == 1 else 'show'} nothing"
    console.print(Text.assemble((data.name, "bold"), title))
    console.print(_class_table(data))
    per_photo = (
        f"{tags or 'none'}: {number:,} ({number / photos:.0%})" for tags, number in report.tags_per_photo.items()
    )
    shortest, median, longest = report.long_sides
    lines = {
        "tags per photo": "   ".join(per_photo),
        "long side": f"{shortest} to {longest} px, median {median}",
        "masks": f"{report.masks:,} (for evaluation only)" if report.masks else "none",
        **({"corrections": _shown_line(data.corrected, report.corrected)} if report.corrected else {}),
        **({"hints": _shown_line(data.hinted, report.hinted)} if report.hinted else {}),
        "disk": f"a training run uses about {_size(photos * bytes_per_photo)}, {_size(bytes_per_photo)} per photo",
    }
    for name, line in lines.items():
        console.print(Text.assemble((f"{name:<16}", "dim"), line))
    for warning in report.warnings:
        console.print(Text.assemble((f"{'warning':<16}", "yellow"), warning))
    if report.duplicates:
        pairs = ", ".join(f"{one} = {other}" for one, other in report.duplicates[:3])
        more = ", …" if len(report.duplicates) > 3 else ""
        line = f"{count(len(report.duplicates), 'duplicate photo')} ({pairs}{more}); kept"
        console.print(Text.assemble((f"{'warning':<16}", "yellow"), line))
    _render_faults(data.faults, console)


def _shown_line(photos: int, by_class: Mapping[str, int]) -> str:
    return f"{count(photos, 'photo')}: {', '.join(f'{name} {number:,}' for name, number in by_class.items())}"


def _class_table(data: TaggedPhotos) -> Table:
    table = Table("class", Column("photos", justify="right"), "", box=None, pad_edge=False, header_style="dim")
    per_class = data.photos_per_class()
    most = max(per_class.values())
    for name, number in per_class.items():
        table.add_row(Text(name), f"{number:,}", Text("━" * max(1, round(24 * number / most)), style="cyan"))
    return table


def _render_faults(faults: Sequence[Fault], console: Console) -> None:
    if not faults:
        console.print(Text("no faults", style="green"))
        return
    console.print(Text(count(len(faults), "fault"), style="yellow"))
    kinds: dict[str, list[Fault]] = {}
    for fault in faults:
        kinds.setdefault(_VARYING.sub("", fault.why), []).append(fault)
    ordered = sorted(kinds.values(), key=len, reverse=True)
    kind, where = Column(overflow="fold", ratio=2), Column(overflow="fold", style="dim", ratio=1)
    grid = Table(Column(justify="right"), kind, where, box=None, show_header=False, pad_edge=False)
    for alike in ordered[:FAULTS_SHOWN]:
        places = ", ".join(fault.where for fault in alike[:3])
        grid.add_row(f"{len(alike):,}", Text(alike[0].why), Text(places + (", …" if len(alike) > 3 else "")))
    console.print(grid)
    if rest := sum(map(len, ordered[FAULTS_SHOWN:])):
        console.print(Text(f"… and {rest:,} more", style="dim"))


def _size(size: float) -> str:
    """`size` bytes in words."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} TB"
