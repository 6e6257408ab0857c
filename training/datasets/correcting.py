"""Corrections read from a source, and attached to the photos of a listing."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from tagmask.classes import find_class, merge_tags
from tagmask.errors import DataError, Fault
from tagmask.inputs import local_path
from tagmask.masks import BACKGROUND, VOID, read_complete, read_mask, read_prediction
from tagmask.wording import count, some
from training.datasets.corrections import Correction
from training.datasets.listing import Listing, possible_ids, read_mask_classes
from training.datasets.photos import Photo


@dataclass(frozen=True)
class Drawn:
    """What a source says about one photo: the `image` as it is named there, and `where`."""

    image: str
    where: str
    correction: Correction


def correct(listing: Listing, source: Path) -> None:
    """Attach the corrections at `source` to the photos of `listing`, and add tags that they show to the photos.

    Classes that no photo of the listing is tagged with are not used. What cannot be used, and what contradicts the
    tags, is a fault. Raises DataError for a source without corrections, or one whose classes cannot be read.
    """
    known = tuple(sorted({tag for photo in listing.photos.values() for tag in photo.tags} - {BACKGROUND}))
    by_name = _by_last_part(listing)
    strangers = []
    for drawn in _read(local_path(source), listing):
        photo = _find(drawn.image, listing, by_name)
        if photo is None:
            strangers.append(drawn.image)
        elif photo.correction is not None:
            listing.fault(drawn.where, f"photo {photo.id!r} is corrected twice; the first is used, remove one")
        elif not drawn.correction.areas and not drawn.correction.complete:
            listing.fault(drawn.where, "says nothing about its photo; ignored")
        else:
            listing.photos[photo.id] = _tagged(replace(photo, correction=drawn.correction), known, drawn.where, listing)
    if strangers:
        why = (
            f"{count(len(strangers), 'correction')} of photos that are not read, such as {some(strangers, 1)}; ignored"
        )
        listing.fault(source.name, why)


def _tagged(photo: Photo, known: tuple[str, ...], where: str, listing: Listing) -> Photo:
    """The photo with the tags that its correction shows; faults for what its tags do not say."""
    assert photo.correction is not None
    named = {name: find_class(name, known) for name in photo.correction.shown}
    if unknown := [name for name, tag in named.items() if tag is None]:
        listing.fault(where, f"no photo is tagged {some(unknown, 3)}; its pixels are not used")
    shown = {tag for tag in named.values() if tag is not None}
    if added := sorted(shown - set(photo.tags)):
        listing.fault(where, f"shows {some(added, 3)}, which its photo was not tagged with; the tag was added")
    whole = (photo.correction.labels(known) != VOID).all()
    if missing := [
        tag
        for tag in photo.tags
        if tag not in shown and tag != BACKGROUND and (whole or find_class(tag, photo.correction.complete))
    ]:
        listing.fault(where, f"shows no {some(missing, 3)}, which its photo is tagged with; correct one of the two")
    return replace(photo, tags=merge_tags(photo.tags, shown))


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


def _read(source: Path, listing: Listing) -> Iterator[Drawn]:
    """The corrections at `source`."""
    folder = source / "masks" if (source / "masks").is_dir() else source
    files = sorted(folder.rglob("*.png")) if (source / "classes.txt").is_file() else []
    if not files:
        raise DataError(
            f"{source}: no corrections; name a folder of PNGs called like the photos, with classes.txt to name their "
            "values, see docs/corrections.md"
        )
    names = read_mask_classes(source / "classes.txt")
    for path in files:
        image = path.relative_to(folder).with_suffix("").as_posix()
        try:
            yield Drawn(image, f"{source.name}/{image}.png", _read_png(path, names))
        except DataError as fault:
            listing.faults.append(Fault(f"{source.name}/{image}.png", str(fault).removeprefix(f"{path}: ")))


def _read_png(path: Path, names: tuple[str, ...]) -> Correction:
    """Raises DataError for a mask that cannot be used."""
    if read_prediction(path) is not None:
        raise DataError(
            f"{path}: was predicted by a model, not corrected; remove it, or save it anew once it is mended"
        )
    mask = read_mask(path)
    beyond = mask[(mask >= len(names)) & (mask != VOID)]
    if beyond.size:
        raise DataError(
            f"{path}: value {beyond[0]} has no name; valid are 0 to {len(names) - 1}, and {VOID} for not said; "
            "name it in classes.txt or correct it"
        )
    return Correction.of(mask, names, read_complete(path))
