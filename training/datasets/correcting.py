"""Corrections read from a source, and attached to the photos of a listing."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

from tagmask import files
from tagmask.areas import Marked
from tagmask.classes import find_class, merge_tags
from tagmask.corrections import Correction, decode_correction
from tagmask.errors import DataError
from tagmask.inbox import CORRECTION_SUFFIX
from tagmask.inputs import local_path
from tagmask.masks import BACKGROUND
from tagmask.photos import read_photo
from tagmask.wording import count, some
from training.datasets import coco, cvat, datumaro, label_studio, samples, voc, yolo
from training.datasets.listing import Listing, possible_ids, read_mask_classes
from training.datasets.photos import Photo

Drawn = tuple[str, str, Callable[[Photo], Correction]]
"""A photo as a source names it, where, and its correction. That raises DataError or ValueError if it cannot be used."""


def correct(listing: Listing, source: Path, *, accepted: bool = False) -> None:
    """Attach the corrections at `source` to the photos of `listing`, and add tags that they show to the photos.

    Classes that no photo of the listing is tagged with are not used. What cannot be used, and what contradicts the
    tags, is a fault. `accepted` is whether predictions count that someone accepted unchanged in Label Studio. Raises
    DataError for a source without corrections, or one whose classes cannot be read.
    """
    known = tuple(sorted({tag for photo in listing.photos.values() for tag in photo.tags} - {BACKGROUND}))
    by_name = _by_last_part(listing)
    strangers = []
    for image, where, read in _read(local_path(source), listing, accepted):
        photo = _find(image, listing, by_name)
        if photo is None:
            strangers.append(image)
        elif photo.correction is not None:
            listing.fault(where, f"photo {photo.id!r} is corrected twice; the first is used, remove one")
        elif correction := _usable(partial(read, photo), where, listing):
            corrected = replace(photo, correction=correction)
            listing.photos[photo.id] = add_shown_tags(corrected, known, where, listing)
    if strangers:
        what = f"{count(len(strangers), 'correction')} of photos that are not read, such as {some(strangers, 1)}"
        listing.fault(source.name, f"{what}; ignored")


def correct_samples(folder: Path, found: dict[str, samples.Description], listing: Listing) -> None:
    """Read the corrections, not yet known, of the samples `found` in a folder; one that cannot be used is a fault."""
    for name, sample in found.items():
        if sample.correction_stamp and not sample.correction:
            path = folder / f"{name}{CORRECTION_SUFFIX}"
            correction = _usable(partial(_decode, path), f"{folder.name}/{path.name}", listing)
            found[name] = sample._replace(correction=correction)


def add_shown_tags(photo: Photo, known: tuple[str, ...], where: str, listing: Listing) -> Photo:
    """The photo with those of the `known` tags that its correction shows; faults for what its tags do not say."""
    assert photo.correction is not None
    named = {name: find_class(name, known) for name in photo.correction.shown}
    if unknown := [name for name, tag in named.items() if tag is None]:
        listing.fault(where, f"no photo is tagged {some(unknown, 3)}; its pixels are not used")
    shown = {tag for tag in named.values() if tag is not None}
    if added := sorted(shown - set(photo.tags)):
        listing.fault(where, f"shows {some(added, 3)}, which its photo was not tagged with; the tag was added")
    if missing := photo.correction.without([tag for tag in photo.tags if tag != BACKGROUND]):
        listing.fault(where, f"shows no {some(missing, 3)}, which its photo is tagged with; correct one of the two")
    return replace(photo, tags=merge_tags(photo.tags, shown))


def _usable(read: Callable[[], Correction], where: str, listing: Listing) -> Correction | None:
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


def _read(source: Path, listing: Listing, accepted: bool) -> Iterator[Drawn]:
    """The corrections at `source`, in the first of the forms that it has."""
    if (source / "SegmentationClass").is_dir():
        return _read_pngs(source / "SegmentationClass", voc.mask_classes(source))
    if any(samples.corrections(source)):
        return _read_samples(source)
    if label_studio.LISTS.fit(source):
        return _read_areas(label_studio.read_areas(source, listing, accepted=accepted))
    for fits, read_areas in _FORMATS:
        if fits(source):
            return _read_areas(read_areas(source, listing))
    folder = source / "masks" if (source / "masks").is_dir() else source
    if (source / "classes.txt").is_file() and any(folder.rglob("*.png")):
        return _read_pngs(folder, read_mask_classes(source / "classes.txt"))
    raise DataError(
        f"{source}: no corrections; name a folder of PNGs called like the photos, with classes.txt to name their "
        "values, an inbox, or masks or outlines as VOC, COCO, CVAT, Datumaro, YOLO or Label Studio have them; see "
        "docs/corrections.md"
    )


_FORMATS: tuple[tuple[Callable[[Path], bool], Callable[[Path, Listing], Iterator[Marked]]], ...] = (
    (datumaro.LISTS.fit, datumaro.read_areas),
    (coco.LISTS.fit, coco.read_areas),
    (cvat.LISTS.fit, cvat.read_areas),
    (yolo.is_yolo, yolo.read_areas),
)


def _read_pngs(folder: Path, names: tuple[str, ...]) -> Iterator[Drawn]:
    for path in sorted(folder.rglob("*.png")):
        name = path.relative_to(folder)
        read = partial(_read_png, path=path, names=names)
        yield name.with_suffix("").as_posix(), f"{folder.name}/{name.as_posix()}", read


def _read_samples(inbox: Path) -> Iterator[Drawn]:
    for image, path in samples.corrections(inbox):
        yield image, path.relative_to(inbox).as_posix(), partial(_read_png, path=path)


def _read_areas(marked: Iterator[Marked]) -> Iterator[Drawn]:
    return ((each.image, each.where, partial(_paint, marked=each)) for each in marked)


def _paint(photo: Photo, marked: Marked) -> Correction:
    height, width = marked.size or read_photo(photo.path).shape[:2]
    return marked.correction((height, width))


def _read_png(photo: Photo, path: Path, names: tuple[str, ...] = ()) -> Correction:
    return _decode(path, names)


def _decode(path: Path, names: tuple[str, ...] = ()) -> Correction:
    try:
        correction = decode_correction(files.read_bytes(path), names)
    except OSError as fault:
        raise ValueError(files.read_fault(fault)) from fault
    if correction.says_nothing:
        raise ValueError("it says nothing")
    return correction
