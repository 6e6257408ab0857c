"""Tagged photos from disk: one `load` for every layout.

samples        <aa>/<sha256>.jpg and .json, the service's inbox   samples.py
voc            JPEGImages/, ImageSets/ and Annotations/   voc.py
table          a CSV or JSONL list of image and tags   tables.py
datumaro       annotations/<split>.json of Datumaro, with photos in images/   datumaro.py
coco           annotations/instances_<split>.json, or another .json of COCO   coco.py
label-studio   a project exported as JSON, and the photos beside it   label_studio.py
cvat           annotations.xml of CVAT for images, with photos in images/   cvat.py
folders        <class>/<photo>   folders.py

A reader fills a `Listing`; `load` selects classes and photos from it, by the same rules for all layouts. If several
layouts fit a folder, the first is used. Data sets with masks are written by `training.datasets.writing`.
"""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from tagmask.classes import class_key, class_name, class_name_fault, find_class, spell
from tagmask.errors import DataError, Fault
from tagmask.inputs import local_path
from tagmask.masks import MAX_CLASSES
from tagmask.wording import count, printable
from training.datasets import coco, cvat, datumaro, folders, label_studio, samples, tables, voc
from training.datasets.listing import Listing
from training.datasets.merging import merge
from training.datasets.photos import Photo, TaggedPhotos

Format = Literal["samples", "voc", "table", "datumaro", "coco", "label-studio", "cvat", "folders"]


@dataclass(frozen=True)
class Reader:
    """How one layout is recognised and read; `lists` are the suffixes of files that replace a folder."""

    fits: Callable[[Path], bool]
    read: Callable[[Path, str | None], Listing]
    lists: tuple[str, ...] = ()


READERS: dict[Format, Reader] = {
    "samples": Reader(samples.is_samples, samples.read),
    "voc": Reader(voc.is_voc, voc.read),
    "table": Reader(lambda root: bool(tables.find(root)), tables.read, tables.SUFFIXES),
    "datumaro": Reader(datumaro.LISTS.fit, datumaro.read, (".json",)),
    "coco": Reader(coco.LISTS.fit, coco.read, (".json",)),
    "label-studio": Reader(label_studio.LISTS.fit, label_studio.read, (".json",)),
    "cvat": Reader(cvat.LISTS.fit, cvat.read, (".xml",)),
    "folders": Reader(lambda root: bool(folders.class_folders(root)), folders.read),
}
"""In the order in which they are tried."""

SUPPORTED = (
    "supported are VOC (JPEGImages/ with ImageSets/ or Annotations/), a folder per class (cat/1.jpg), "
    "a CSV with the header image,tags or a JSONL list, the service's inbox of samples, and exports in the formats of "
    "COCO, Datumaro, Label Studio and CVAT"
)


def load(
    roots: Path | Sequence[Path],
    *,
    split: str | None = None,
    classes: Sequence[str] | None = None,
    format: Format | None = None,
) -> TaggedPhotos:
    """Read the tagged photos at `roots`, each a data set's folder or list. `format` None detects the layout.

    Several data sets are read as one, with the ids of each below a name of its own; all must have the split and the
    format.

    `split` names one part of the data set; None takes all of it. `classes` limits and orders the classes to learn,
    which are then spelled as in it; other tags are ignored. None learns every tag of the split, sorted. Photos without
    such a tag are left out and counted in one fault. Photos are not decoded: `training.datasets.check.check` does that.

    Raises DataError when no layout fits, the split is unknown, no photo is left, a class has no photo, or a name in
    `classes` cannot be that of a class.
    """
    paths = [roots] if isinstance(roots, Path) else list(roots)
    listings = [read_listing(path, split, format) for path in paths]
    listing = listings[0] if len(paths) == 1 else merge(paths, listings)
    name = ", ".join(map(str, paths))
    listed = [listing.photos[each] for each in sorted(listing.photos)]
    if not listed:
        raise DataError(f"{name}: no photos{f' in split {split!r}' if split else ''}{_first(listing.faults)}")
    known = sorted({tag for photo in listed for tag in photo.tags})
    wanted = [classes] if isinstance(classes, str) else classes
    learned = tuple(map(class_name, wanted)) if wanted else tuple(known)
    faults = listing.faults
    _check_classes(name, learned, known, faults)
    photos = _tagged(listed, {tag: found for tag in known if (found := find_class(tag, learned))})
    if len(photos) < len(listed):
        why = f"{len(listed) - len(photos)} of {count(len(listed), 'photo')} without a tag to learn; left out"
        faults = [*faults, Fault(printable(", ".join(root.name or str(root) for root in paths)), why)]
    return TaggedPhotos(
        root=listing.root,
        classes=learned,
        photos=photos,
        mask_classes=spell(listing.mask_classes, learned) if any(photo.mask for photo in photos) else (),
        faults=tuple(faults),
    )


def read_listing(root: Path, split: str | None = None, format: Format | None = None) -> Listing:
    """All photos at `root`, or in one split, with all their tags.

    Raises DataError when no layout fits, or not the requested `format`, or the split is unknown.
    """
    root = local_path(root)
    suffix = f".{root.name.rpartition('.')[2]}".lower() if root.is_file() else ""
    readers = {name: reader for name, reader in READERS.items() if root.is_dir() or suffix in reader.lists}
    if not readers:
        raise DataError(f"{root}: no such folder or list; {SUPPORTED}")
    if format is not None:
        if format not in readers:
            raise DataError(
                f"{root}: a {suffix} file is not in the format {format}; name the data set's folder or its list"
            )
        return readers[format].read(root, split)
    for reader in readers.values():
        if reader.fits(root):
            return reader.read(root, split)
    if suffix:
        raise DataError(f"{root}: is not recognised as {' or '.join(readers)}; choose its format with --format")
    entries = sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in root.iterdir())
    raise DataError(f"{root}: no known layout, it contains {_some(entries, 8) or 'nothing'}; {SUPPORTED}")


def _tagged(photos: Iterable[Photo], learned: Mapping[str, str]) -> tuple[Photo, ...]:
    """The photos with a tag in `learned`, with these tags alone, as it spells them."""
    limited = (
        replace(photo, tags=tuple(sorted(learned[tag] for tag in photo.tags if tag in learned))) for photo in photos
    )
    return tuple(photo for photo in limited if photo.tags)


def _check_classes(root: str, learned: Sequence[str], known: Sequence[str], faults: Sequence[Fault]) -> None:
    if not learned:
        raise DataError(f"{root}: no class to learn{_first(faults)}; tag the photos, or name at least one class")
    if len(learned) > MAX_CLASSES:
        raise DataError(f"{root}: {len(learned)} classes, more than {MAX_CLASSES}; name fewer classes")
    keys = [class_key(name) for name in learned]
    if repeated := next((name for name, key in zip(learned, keys, strict=True) if keys.count(key) > 1), None):
        raise DataError(f"class {repeated!r} is listed twice; list it once")
    for name in learned:
        if fault := class_name_fault(name):
            raise DataError(f"class {name!r} {fault}")
        if not find_class(name, known):
            raise DataError(f"{root}: no photo is tagged {name!r}{_hint(name, known)}; known tags: {_some(known, 40)}")


def _first(faults: Sequence[Fault]) -> str:
    return f"; first fault: {faults[0].where}: {faults[0].why}" if faults else ""


def _hint(name: str, known: Sequence[str]) -> str:
    folded = {tag.casefold(): tag for tag in known}
    close = difflib.get_close_matches(name.casefold(), folded, n=1)
    return f", did you mean {folded[close[0]]!r}?" if close else ""


def _some(names: Sequence[str], most: int) -> str:
    return ", ".join(map(printable, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")
