"""Where tagged photos come from. Sources are read and never changed."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tagmask.errors import DataError
from tagmask.masks import BACKGROUND
from training.datasets import Format, read_listing, samples
from training.datasets.listing import Listing, shown
from training.datasets.photos import Fault

_HEX = "[0-9a-f]"


@dataclass(frozen=True)
class Source:
    """Anything that `training.datasets.load` reads: a folder or list, one `split`, and of its tags only `classes`.

    Its `format` is found out unless it is given. A photo is known by the path it is found at below `root`, links
    unresolved.
    """

    root: Path
    split: str | None = None
    classes: tuple[str, ...] | None = None
    format: Format | None = None


@dataclass(frozen=True)
class Listed:
    """What the sources say now: the `tags` of each photo, sorted, by its absolute path, and what is wrong with a list.

    Photos that carry none of the tags asked for have an empty tuple: they may have had some before.
    """

    tags: Mapping[str, tuple[str, ...]]
    faults: tuple[Fault, ...]

    @property
    def untagged(self) -> int:
        """Photos that carry none of the tags asked for."""
        return sum(not tags for tags in self.tags.values())


def read_sources(sources: Iterable[Source]) -> Listed:
    """List the sources. A photo that several of them list has the tags of all; an inbox may still be empty.

    A photo with a tag that no class can be named is left out with a fault. Raises DataError when a source is not there,
    has no known layout, or lacks its split.
    """
    tags: dict[str, tuple[str, ...]] = {}
    faults: list[Fault] = []
    for source in sources:
        listing = _listing(source)
        faults += [Fault(shown(f"{listing.root}/{fault.where}"), fault.why) for fault in listing.faults]
        for photo in listing.photos.values():
            path = str(photo.path)
            named = [tag for tag in photo.tags if source.classes is None or tag in source.classes]
            if why := _path_fault(path) or next(filter(None, map(tag_fault, named)), None):
                faults.append(Fault(shown(path), why))
            else:
                tags[path] = tuple(sorted({*tags.get(path, ()), *named}))
    return Listed(dict(sorted(tags.items())), tuple(faults))


def tag_fault(tag: str) -> str | None:
    """Why `training.datasets.load` would refuse a class of this name, or None."""
    if tag and tag != BACKGROUND and tag.isprintable() and not any(map(str.isspace, tag)):
        return None
    return f"tag {tag!r}: a class name is printable, without blanks, and not {BACKGROUND!r}; rename it"


def _listing(source: Source) -> Listing:
    root = source.root.absolute()
    try:
        if source.format is None and _is_new_inbox(root):
            return samples.read(root, source.split)
        return read_listing(root, source.split, source.format)
    except DataError:
        if root.is_dir() and not any(path.is_file() for path in root.rglob("[!.]*")):
            return Listing(root)
        raise


def _is_new_inbox(root: Path) -> bool:
    """Whether the folder is empty, or all that is in it are photos of an inbox without their JSON.

    Such a folder of photos would pass for a class otherwise.
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
        return "its path is not UTF-8; rename the photo, or the folder that it is in"
    return None
