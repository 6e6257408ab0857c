"""Masks of photos at a source, in any form that a data set or an editor has them: corrections, or hints."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal

from tagmask import files
from tagmask.areas import Marks
from tagmask.corrections import Correction, decode_correction
from tagmask.errors import DataError
from tagmask.inputs import local_path
from tagmask.photos import read_photo
from tagmask.wording import count, some
from training.datasets import coco, cvat, datumaro, label_studio, samples, voc, yolo
from training.datasets.listing import Listing, possible_ids, read_mask_classes
from training.datasets.photos import Photo

SourceMask = tuple[str, str, Callable[[Photo], Correction]]
"""A photo as a source names it, where, and its mask. That raises DataError or ValueError if it cannot be used."""


def read_masks(
    source: Path, listing: Listing, noun: Literal["correction", "hint"], *, accepted: bool = False
) -> Iterator[tuple[Photo, str, Correction]]:
    """The photos of `listing` that have a mask at `source`, where it is, and the mask.

    What models predicted is read for hints alone; `accepted` is whether predictions count as corrections that someone
    accepted unchanged in Label Studio. What cannot be used, and a second mask of a photo, is a fault. Raises DataError
    for a source without masks, or one whose classes cannot be read.
    """
    by_name = _by_last_part(listing)
    strangers = []
    for image, where, read in _read(local_path(source), listing, noun, accepted):
        photo = _find(image, listing, by_name)
        if photo is None:
            strangers.append(image)
        elif getattr(photo, noun) is not None:
            listing.fault(where, f"a second {noun} of photo {photo.id!r}; the first is used, remove one")
        elif mask := usable(partial(read, photo), where, listing):
            yield photo, where, mask
    if strangers:
        what = f"{count(len(strangers), noun)} of photos that are not read, such as {some(strangers, 1)}"
        listing.fault(source.name, f"{what}; ignored")


def usable(read: Callable[[], Correction], where: str, listing: Listing) -> Correction | None:
    """What `read` returns, None with a fault if it cannot be used."""
    try:
        return read()
    except (DataError, ValueError, TypeError, OverflowError) as fault:
        listing.fault(where, f"not used: {fault}; correct or remove it")
        return None


def _by_last_part(listing: Listing) -> dict[str, list[str]]:
    """Ids of photos by their last part."""
    ids = defaultdict(list)
    for name in listing.photos:
        ids[PurePosixPath(name).name].append(name)
    return ids


def _find(image: str, listing: Listing, by_name: dict[str, list[str]]) -> Photo | None:
    """The photo that a source names by its id or path, or by the last part of it if no other photo has the same."""
    names = list(possible_ids(image))
    same = by_name.get(PurePosixPath(names[1]).name, [])
    found = next((name for name in names if name in listing.photos), same[0] if len(same) == 1 else None)
    return None if found is None else listing.photos[found]


def _read(source: Path, listing: Listing, noun: str, accepted: bool) -> Iterator[SourceMask]:
    """The masks at `source`, in the first of the forms that it has."""
    predicted = noun == "hint"
    if (source / "SegmentationClass").is_dir():
        return _read_pngs(source / "SegmentationClass", voc.mask_classes(source), predicted)
    if any(samples.corrections(source)):
        return _read_samples(source)
    if label_studio.LISTS.fit(source):
        return _read_areas(label_studio.read_areas(source, listing, accepted=accepted or predicted))
    forms: tuple[tuple[Callable[[Path], bool], Callable[[Path, Listing], Iterator[Marks]]], ...] = (
        (datumaro.LISTS.fit, datumaro.read_areas),
        (coco.LISTS.fit, coco.read_areas),
        (cvat.LISTS.fit, partial(cvat.read_areas, predicted=predicted)),
        (yolo.is_yolo, yolo.read_areas),
    )
    for fits, read_areas in forms:
        if fits(source):
            return _read_areas(read_areas(source, listing))
    folder = source / "masks" if (source / "masks").is_dir() else source
    if (source / "classes.txt").is_file() and any(folder.rglob("*.png")):
        return _read_pngs(folder, read_mask_classes(source / "classes.txt"), predicted)
    raise DataError(
        f"{source}: no {noun}s; name a folder of PNGs called like the photos, with classes.txt to name their "
        "values, an inbox, or masks or outlines as VOC, COCO, CVAT, Datumaro, YOLO or Label Studio have them; see "
        "docs/corrections.md"
    )


def _read_pngs(folder: Path, names: tuple[str, ...], predicted: bool) -> Iterator[SourceMask]:
    for path in sorted(folder.rglob("*.png")):
        name = path.relative_to(folder)
        read = partial(_read_png, path=path, names=names, predicted=predicted)
        yield name.with_suffix("").as_posix(), f"{folder.name}/{name.as_posix()}", read


def _read_samples(inbox: Path) -> Iterator[SourceMask]:
    for image, path in samples.corrections(inbox):
        yield image, path.relative_to(inbox).as_posix(), partial(_read_png, path=path)


def _read_areas(marks: Iterator[Marks]) -> Iterator[SourceMask]:
    return ((each.image, each.where, partial(_paint, marks=each)) for each in marks)


def _paint(photo: Photo, marks: Marks) -> Correction:
    height, width = marks.size or read_photo(photo.path).shape[:2]
    return marks.correction((height, width))


def _read_png(photo: Photo, path: Path, names: tuple[str, ...] = (), predicted: bool = False) -> Correction:
    return decode_mask(path, names, predicted)


def decode_mask(path: Path, names: tuple[str, ...] = (), predicted: bool = False) -> Correction:
    """The mask in a file, as `decode_correction` reads it. Raises ValueError also for one that says nothing."""
    try:
        mask = decode_correction(files.read_bytes(path), names, predicted=predicted)
    except OSError as fault:
        raise ValueError(files.read_fault(fault)) from fault
    if mask.says_nothing:
        raise ValueError("it says nothing")
    return mask
