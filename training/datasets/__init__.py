"""Tagged photos from disk: one `load` for every layout.

A reader of `training.datasets.layouts` fills a `Listing`; `load` selects classes and photos from it, by the same rules
for all layouts. Data sets with masks are written by `training.datasets.writing`.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path

from tagmask.classes import class_key, class_name, class_name_fault, find_class, spell
from tagmask.errors import DataError, Fault
from tagmask.masks import BACKGROUND, MAX_CLASSES
from tagmask.mirror import local_copies
from tagmask.wording import count, printable, some
from training.choices import Format
from training.datasets.correcting import correct
from training.datasets.hinting import hint
from training.datasets.layouts import read_listing
from training.datasets.listing import Listing
from training.datasets.merging import data_set_names, merge
from training.datasets.photos import Photo, TaggedPhotos, rename_tags

__all__ = ["Format", "load", "read_listing"]


def load(
    roots: str | PathLike[str] | Sequence[str | PathLike[str]],
    *,
    split: str | None = None,
    classes: Sequence[str] | None = None,
    none: Sequence[str] | None = None,
    format: Format | None = None,
    corrections: str | PathLike[str] | None = None,
    accepted: bool = False,
    hints: str | PathLike[str] | None = None,
) -> TaggedPhotos:
    """Read the tagged photos at `roots`, each a data set's folder or list. `format` None detects the layout.

    Each, `corrections` and `hints` may be a URL such as s3://bucket/prefix: it is copied to this machine, as
    `tagmask.mirror.local_copies` says, which may raise other errors.

    Several data sets are read as one, with the ids of each below a name of its own; all must have the split and the
    format.

    `split` names one part of the data set; None takes all of it. `classes` limits and orders the classes to learn,
    which are then spelled as in it; other tags are ignored. None learns every tag of the split, sorted. A photo that
    shows nothing, as its data set says or as it has no tags but those in `none`, is kept without tags; other photos
    without a tag to learn are left out and counted in one fault. `corrections` is a source of corrections; without it
    no mask is learned from as truth. `accepted` is whether predictions in it count that someone accepted unchanged in
    Label Studio. `hints` is a source of masks that another model made. Photos are not decoded:
    `training.datasets.check.check` does that.

    Raises DataError when no layout fits, the split is unknown, no photo shows anything, a class has no photo, a name in
    `classes` cannot be that of a class, or one in `none` is no tag.
    """
    places = [roots] if isinstance(roots, str | PathLike) else list(roots)
    masks = [[] if source is None else [source] for source in (corrections, hints)]
    with local_copies(places) as paths, local_copies(masks[0]) as corrected, local_copies(masks[1]) as hinted:
        data = _load(paths, split, classes, none, format, corrected, accepted, hinted)
    return replace(data, places=tuple(map(str, places)))


def _load(
    paths: Sequence[Path],
    split: str | None,
    classes: Sequence[str] | None,
    none: Sequence[str] | None,
    format: Format | None,
    corrections: Sequence[Path],
    accepted: bool,
    hints: Sequence[Path],
) -> TaggedPhotos:
    listings = [read_listing(path, split, format) for path in paths]
    named = zip(data_set_names(paths), listings, strict=True)
    listing = listings[0] if len(paths) == 1 else merge(dict(named))
    name = ", ".join(map(str, paths))
    if not listing.photos:
        why = _first(listing.faults) or "; add photos with tags"
        raise DataError(f"{name}: no photos{f' in split {split!r}' if split else ''}{why}")
    _take_as_nothing(name, listing, _names(none), _names(classes))
    for source in corrections:
        correct(listing, source, accepted=accepted)
    for source in hints:
        hint(listing, source)
    listed = [listing.photos[each] for each in sorted(listing.photos)]
    known = listing.known_tags
    learned = tuple(map(class_name, _names(classes))) or known
    faults = listing.faults
    if not known and (empty := sum(BACKGROUND in photo.tags for photo in listed)):
        why = f"as only photos that show nothing ({empty:,}) are listed"
        raise DataError(f"{name}: no class to learn, {why}; add tagged photos")
    _check_classes(name, learned, known, faults)
    photos = _learnable(listed, {tag: found for tag in known if (found := find_class(tag, learned))})
    if len(photos) < len(listed):
        why = f"{len(listed) - len(photos)} of {count(len(listed), 'photo')} without a tag to learn; left out"
        faults = [*faults, Fault(printable(", ".join(root.name or str(root) for root in paths)), why)]
    return TaggedPhotos(
        root=listing.root,
        classes=learned,
        photos=photos,
        mask_classes=spell(listing.mask_classes, learned) if any(photo.mask for photo in photos) else (),
        faults=tuple(faults),
        layout=listing.layout,
    )


def _names(names: str | Sequence[str] | None) -> Sequence[str]:
    return [names] if isinstance(names, str) else names or ()


def _take_as_nothing(root: str, listing: Listing, none: Sequence[str], classes: Sequence[str]) -> None:
    known = listing.known_tags
    for name in none:
        if find_class(name, classes):
            raise DataError(f"{name!r} is both a class and a name for none; remove it from one of the two")
        if not find_class(name, (*known, BACKGROUND)):
            raise _unknown_tag(root, name, known)
    if none:
        listing.take_as_nothing(none)


def _learnable(photos: Sequence[Photo], learned: Mapping[str, str]) -> tuple[Photo, ...]:
    """The photos with their tags in `learned` alone, as it spells them, and without tags those that show nothing."""
    limited = zip(photos, rename_tags(photos, learned), strict=True)
    return tuple(renamed for photo, renamed in limited if renamed.tags or BACKGROUND in photo.tags)


def _check_classes(root: str, learned: Sequence[str], known: Sequence[str], faults: Sequence[Fault]) -> None:
    if not learned:
        raise DataError(f"{root}: no class to learn{_first(faults)}; tag the photos, or name at least one class")
    if len(learned) > MAX_CLASSES:
        raise DataError(f"{root}: {len(learned)} classes, more than {MAX_CLASSES}; choose fewer with --classes")
    keys = [class_key(name) for name in learned]
    if repeated := next((name for name, key in zip(learned, keys, strict=True) if keys.count(key) > 1), None):
        raise DataError(f"class {repeated!r} is listed twice; list it once")
    for name in learned:
        if fault := class_name_fault(name):
            raise DataError(f"class {name!r} {fault}")
        if not find_class(name, known):
            raise _unknown_tag(root, name, known)


def _unknown_tag(root: str, name: str, known: Sequence[str]) -> DataError:
    return DataError(f"{root}: no photo is tagged {name!r}{_hint(name, known)}; known tags: {some(known, 40)}")


def _first(faults: Sequence[Fault]) -> str:
    return f"; first fault: {faults[0].where}: {faults[0].why}" if faults else ""


def _hint(name: str, known: Sequence[str]) -> str:
    folded = {tag.casefold(): tag for tag in known}
    close = difflib.get_close_matches(name.casefold(), folded, n=1)
    return f", did you mean {folded[close[0]]!r}?" if close else ""
