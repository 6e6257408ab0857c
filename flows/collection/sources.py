"""Sources of tagged photos. They are only read, never changed."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tagmask.classes import find_class, merge_tags
from tagmask.corrections import Correction
from tagmask.errors import DataError, Fault
from tagmask.inputs import local_path
from tagmask.masks import BACKGROUND
from tagmask.wording import printable
from training.datasets import Format, read_listing, samples
from training.datasets.correcting import correct
from training.datasets.listing import Listing

_HEX = "[0-9a-f]"


@dataclass(frozen=True)
class Source:
    """Anything that `training.datasets.load` reads: a folder or list, limited to one `split` and to some `classes`.

    `none` names tags of photos that show nothing. The `format` is detected by default. A photo is identified by its
    path below `root`, with links unresolved.
    """

    root: Path
    split: str | None = None
    classes: tuple[str, ...] | None = None
    none: tuple[str, ...] | None = None
    format: Format | None = None


@dataclass(frozen=True)
class Listed:
    """The current state of the sources: the sorted `tags` of each photo by its absolute path, and `faults` of lists.

    `corrections` are those of photos in inboxes, and in lists that state them, by path. Photos with none of the
    requested tags have an empty tuple, as they may have had some before; those that show nothing have the tag
    "background" alone.
    """

    tags: Mapping[str, tuple[str, ...]]
    corrections: Mapping[str, Correction]
    faults: tuple[Fault, ...]


def read_sources(sources: Iterable[Source]) -> Listed:
    """List the sources. A photo listed by several of them has the tags of all; an inbox may still be empty.

    Raises DataError for a source that is missing, has no known layout, or lacks its split.
    """
    tags: dict[str, tuple[str, ...]] = {}
    corrections: dict[str, Correction] = {}
    faults: list[Fault] = []
    for source in sources:
        listing = _listing(source)
        if source.none:
            listing.take_as_nothing(source.none)
        requested = (*source.classes, BACKGROUND) if source.classes else ()
        faults += [Fault(printable(f"{listing.root}/{each.where}"), each.why) for each in listing.faults]
        for photo in listing.photos.values():
            path = str(photo.path)
            kept = [tag for tag in photo.tags if not requested or find_class(tag, requested)]
            if fault := _path_fault(path):
                faults.append(Fault(printable(path), fault))
            else:
                tags[path] = merge_tags(tags.get(path, ()), kept)
                if photo.correction:
                    corrections[path] = photo.correction
    return Listed(dict(sorted(tags.items())), corrections, tuple(faults))


def _listing(source: Source) -> Listing:
    listing = _tagged(source)
    if any(samples.corrections(listing.root)):
        correct(listing, listing.root)
    return listing


def _tagged(source: Source) -> Listing:
    root = local_path(source.root).absolute()
    try:
        if source.format is None and _is_new_inbox(root):
            return samples.read(root, source.split)
        return read_listing(root, source.split, source.format)
    except DataError:
        if root.is_dir() and not any(path.is_file() for path in root.rglob("[!.]*")):
            return Listing(root)
        raise


def _is_new_inbox(root: Path) -> bool:
    """Whether the folder is empty, or holds only photos of an inbox that still lack their JSON.

    Otherwise such folders of photos would be taken for classes.
    """
    if not root.is_dir() or samples.is_samples(root):
        return False
    return all(
        folder.match(_HEX * 2) and folder.is_dir() and all(file.match(f"{_HEX * 64}.*") for file in _visible(folder))
        for folder in _visible(root)
    )


def _visible(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if not path.name.startswith("."))


def _path_fault(path: str) -> str | None:
    try:
        path.encode()
    except UnicodeEncodeError:
        return "its path is not valid UTF-8; rename the photo or its folder"
    return None
