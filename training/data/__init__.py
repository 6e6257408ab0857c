"""Tagged photos from disk: one `load` for every layout.

VOC            JPEGImages/, ImageSets/ and Annotations/                                  training/data/voc.py
class folders  <class>/<photo>                                                           training/data/folders.py
table          a CSV or JSONL list of image and tags                                     training/data/tables.py
samples        <aa>/<sha256>.jpg and .json, the service's inbox                          training/data/samples.py

A reader fills a `Listing`; what is learned from it is chosen here, by the same rules for all.
"""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from training.data import folders, samples, tables, voc
from training.data.listing import Listing, shown
from training.data.photos import BACKGROUND, MAX_CLASSES, Fault, Photo, TaggedPhotos
from training.errors import DataError

UNDERSTOOD = (
    "understood are VOC (JPEGImages/ with ImageSets/ or Annotations/), a folder a class (cat/1.jpg), "
    "a CSV with the header image,tags or a JSONL list, and the service's inbox of samples"
)


def load(root: Path, *, split: str | None = None, classes: Sequence[str] | None = None) -> TaggedPhotos:
    """Read the tagged photos at `root`, a data set's folder or its CSV or JSONL list, finding out the layout itself.

    `split` names one part of the data set; None takes all of it. `classes` limits and orders what is learned, other
    tags are ignored; None learns every tag of the split, sorted. Photos without a learned tag are left out and counted
    in one fault. No photo is decoded here: `training.data.check.check` does that.

    Raises DataError when no layout fits, the split is unknown, no photo is left, a class has no photo, or a class
    cannot be learned by its name.
    """
    listing = read_listing(root, split)
    named = [listing.photos[name] for name in sorted(listing.photos)]
    if not named:
        first = f"; first fault: {listing.faults[0].where}: {listing.faults[0].why}" if listing.faults else ""
        raise DataError(f"{root}: no photos{f' in split {split!r}' if split else ''}{first}")
    known = sorted({tag for photo in named for tag in photo.tags})
    learned = tuple(known if classes is None else classes)
    _check_classes(root, learned, known)
    photos = _tagged(named, frozenset(learned))
    faults = listing.faults
    if len(photos) < len(named):
        why = f"{len(named) - len(photos)} of {len(named)} photos carry no learned tag; left out"
        faults = [*faults, Fault(shown(root.name or str(root)), why)]
    return TaggedPhotos(
        root=root if root.is_dir() else root.parent,
        classes=learned,
        photos=photos,
        mask_classes=listing.mask_classes if any(photo.mask for photo in photos) else (),
        faults=tuple(faults),
    )


def read_listing(root: Path, split: str | None = None) -> Listing:
    """All that the layout's reader finds at `root`, or in one split, with whatever tags: for those who choose by other
    rules than `load`. Raises DataError when no layout fits or the split is unknown.
    """
    if root.is_file() and root.suffix.lower() in tables.SUFFIXES:
        return tables.read(root, split)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder or list; {UNDERSTOOD}")
    if samples.is_samples(root):
        return samples.read(root, split)
    if voc.is_voc(root):
        return voc.read(root, split)
    if table := tables.find(root):
        return tables.read(table, split)
    if folders.class_folders(root):
        return folders.read(root, split)
    found = sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in root.iterdir())
    raise DataError(f"{root}: no known layout, it holds {_some(found, 8) or 'nothing'}; {UNDERSTOOD}")


def _tagged(photos: Iterable[Photo], learned: frozenset[str]) -> tuple[Photo, ...]:
    limited = (replace(photo, tags=tuple(sorted(learned.intersection(photo.tags)))) for photo in photos)
    return tuple(photo for photo in limited if photo.tags)


def _check_classes(root: Path, learned: Sequence[str], known: Sequence[str]) -> None:
    if not learned:
        raise DataError(f"{root}: no class to learn; tag the photos, or name at least one class")
    if len(learned) > MAX_CLASSES:
        raise DataError(f"{root}: {len(learned)} classes, at most {MAX_CLASSES} fit a mask; name fewer classes")
    if len(set(learned)) < len(learned):
        twice = next(name for name in learned if list(learned).count(name) > 1)
        raise DataError(f"class {twice!r} is named twice; name it once")
    for name in learned:
        if name == BACKGROUND or not name.isprintable() or any(map(str.isspace, name)):
            why = f"a class name is printable, without blanks, and not {BACKGROUND!r}"
            raise DataError(f"{root}: class {name!r}: {why}; rename it, or name the classes to learn without it")
        if name not in known:
            raise DataError(f"{root}: no photo is tagged {name!r}{_hint(name, known)}; known tags: {_some(known, 40)}")


def _hint(name: str, known: Sequence[str]) -> str:
    folded = {tag.casefold(): tag for tag in known}
    close = difflib.get_close_matches(name.casefold(), folded, n=1)
    return f", did you mean {folded[close[0]]!r}?" if close else ""


def _some(names: Sequence[str], most: int) -> str:
    return ", ".join(map(shown, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")
