"""Sources of tagged photos. They are only read, never changed."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from flows.collection.catalogue import Catalogue
from flows.collection.source_list import ListedPhoto, SourceList
from tagmask.classes import find_class, merge_tags
from tagmask.errors import DataError, Fault
from tagmask.inbox import CORRECTION_SUFFIX, forgotten_samples
from tagmask.inputs import Location, absolute_location
from tagmask.masks import BACKGROUND
from tagmask.mirror import local_copies
from tagmask.wording import printable
from training.datasets import Format, read_listing, samples
from training.datasets.correcting import add_shown_tags, correct, correct_samples
from training.datasets.hinting import hint
from training.datasets.listing import Listing
from training.datasets.photos import Photo

_HEX = "[0-9a-f]"


@dataclass(frozen=True)
class Source:
    """Anything that `training.datasets.load` reads: a folder or list, limited to one `split` and to some `classes`.

    `root` may be a URL such as s3://bucket/prefix: it is copied to this machine, as `tagmask.mirror.local_copies` says.
    `none` names tags of photos that show nothing. The `format` is detected by default. `hints` has masks of the photos
    that another model made. A photo is identified by its path below `root` or its copy, with links unresolved.
    """

    root: Location
    split: str | None = None
    classes: tuple[str, ...] | None = None
    none: tuple[str, ...] | None = None
    format: Format | None = None
    hints: Location | None = None


def read_sources(sources: Iterable[Source], catalogue: Catalogue, source_list: SourceList) -> None:
    """List the photos of the sources. One in several of them has the tags of all; an inbox may still be empty.

    The samples of an inbox are read by folder, and only those whose JSON or correction the catalogue does not know,
    unless it has hints. Raises DataError for a source or hints that are missing, have no known layout, or lack the
    split, RunError when the workspace cannot be written, and as `tagmask.mirror.local_copies` does.
    """
    for source in sources:
        with local_copies([source.root]) as (root,):
            _read_source(root.absolute(), source, catalogue, source_list)


def _read_source(root: Path, source: Source, catalogue: Catalogue, source_list: SourceList) -> None:
    requested, inbox = _requested(source), _is_inbox(root, source)
    if inbox and source.hints is None:
        listing = Listing(root)
        photos = _samples(listing, catalogue)
    else:
        listing = _data_set(root, replace(source, format="samples") if inbox else source)
        if source.hints is not None:
            source_list.faults += _add_hints(listing, source.hints)
        photos = _photos(listing, source_list)
    source_list.add(photo._replace(tags=requested(photo.tags)) for photo in photos)
    place = str(listing.root).replace(str(root), str(absolute_location(source.root)), 1)  # a URL, not its copy
    source_list.faults += [Fault(printable(f"{place}/{each.where}"), each.why) for each in listing.faults]


def _requested(source: Source) -> Callable[[tuple[str, ...]], tuple[str, ...]]:
    """What limits the tags of a photo to those that are requested."""
    none, classes = source.none or (), (*source.classes, BACKGROUND) if source.classes else ()

    @lru_cache(maxsize=10_000)
    def requested(tags: tuple[str, ...]) -> tuple[str, ...]:
        named = merge_tags(BACKGROUND if find_class(tag, none) else tag for tag in tags)
        return tuple(tag for tag in named if not classes or find_class(tag, classes))

    return requested


def _samples(listing: Listing, catalogue: Catalogue) -> Iterator[ListedPhoto]:
    """The photos of an inbox; the catalogue learns what their descriptions and corrections say."""
    forgotten = frozenset(forgotten_samples(listing.root))
    corrected = []
    for folder in samples.folders(listing):
        known = catalogue.descriptions(folder)
        found = samples.read_folder(folder, listing, forgotten, known)
        correct_samples(folder, found, listing)
        if found != known:
            catalogue.describe(folder, known, found)
        if any(each.correction for each in found.values()):
            corrected.append(folder)
        place = folder.name
        for name, each in found.items():
            tags = listing.tags(each.tags, f"{place}/{name}.json")
            if each.correction is None:
                yield ListedPhoto(f"{folder}/{name}{each.suffix}", tags)
    for folder in corrected:  # last, as only now all classes are known
        yield from _corrected_samples(folder, listing, catalogue)


def _corrected_samples(folder: Path, listing: Listing, catalogue: Catalogue) -> Iterator[ListedPhoto]:
    """The photos in a folder of an inbox that have a correction, with the tags that it shows."""
    classes = listing.classes
    quiet = replace(listing, faults=[])  # the listing has the faults of their tags already
    for name, each in catalogue.descriptions(folder).items():
        if each.correction:
            place = f"{folder.name}/{name}"
            tags = quiet.tags(each.tags, place)
            photo = Photo(place, folder / f"{name}{each.suffix}", tags, correction=each.correction)
            photo = add_shown_tags(photo, classes, f"{place}{CORRECTION_SUFFIX}", listing)
            yield ListedPhoto(str(photo.path), photo.tags, photo.correction)


def _photos(listing: Listing, source_list: SourceList) -> Iterator[ListedPhoto]:
    """The photos of a data set; those whose paths are not valid UTF-8 are faults."""
    for photo in listing.photos.values():
        if _is_encodable(path := str(photo.path)):
            yield ListedPhoto(path, photo.tags, photo.correction, photo.hint)
        else:
            why = "its path is not valid UTF-8; rename the photo or its folder"
            source_list.faults.append(Fault(printable(path), why))


def _data_set(root: Path, source: Source) -> Listing:
    try:
        listing = read_listing(root, source.split, source.format)
    except DataError:
        if root.is_dir() and not any(path.is_file() for path in root.rglob("[!.]*")):
            return Listing(root)
        raise
    if any(samples.corrections(listing.root)):
        correct(listing, listing.root)
    return listing


def _add_hints(listing: Listing, hints: Location) -> list[Fault]:
    """Attach the hints to the photos of the listing; returns their faults."""
    hinted = replace(listing, faults=[])  # of the same photos
    with local_copies([hints]) as (path,):
        hint(hinted, path)
    place = absolute_location(hints)
    return [Fault(printable(f"hints {place}: {each.where}"), each.why) for each in hinted.faults]


def _is_inbox(root: Path, source: Source) -> bool:
    """Whether the source is a whole inbox, whose samples are read by folder."""
    if source.split is not None or source.format not in (None, "samples") or not _is_encodable(str(root)):
        return False
    return root.is_dir() and (samples.is_samples(root) or (source.format is None and _is_new_inbox(root)))


def _is_new_inbox(root: Path) -> bool:
    """Whether the folder is empty, or holds only photos of an inbox that still lack their JSON.

    Otherwise such folders of photos would be taken for classes.
    """
    return all(
        folder.match(_HEX * 2) and folder.is_dir() and all(file.match(f"{_HEX * 64}.*") for file in _visible(folder))
        for folder in _visible(root)
    )


def _visible(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if not path.name.startswith("."))


def _is_encodable(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
