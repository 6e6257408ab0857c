"""The layouts of data sets: how each is recognised and read, and what to do about those that cannot be read.

A folder of splits, or one around a data set, is read as what it contains.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from tagmask.errors import DataError
from tagmask.inputs import local_path
from tagmask.masks import BACKGROUND
from tagmask.photos import PHOTO_SUFFIXES
from tagmask.wording import some
from training.choices import Format
from training.datasets import coco, cvat, datumaro, folders, label_studio, samples, tables, voc, yolo
from training.datasets.exports import head
from training.datasets.listing import Listing, unknown_split, unreadable
from training.datasets.merging import merge


@dataclass(frozen=True)
class Reader:
    """How a layout is called, recognised and read; `lists` are the suffixes of files that replace a folder."""

    title: str
    fits: Callable[[Path], bool]
    read: Callable[[Path, str | None], Listing]
    lists: tuple[str, ...] = ()


READERS: dict[Format, Reader] = {
    "samples": Reader("the inbox of the service", samples.is_samples, samples.read),
    "voc": Reader("PASCAL VOC", voc.is_voc, voc.read),
    "table": Reader("tag list (CSV or JSON)", lambda root: bool(tables.find(root)), tables.read, tables.SUFFIXES),
    "datumaro": Reader("Datumaro", datumaro.LISTS.fit, datumaro.read, (".json",)),
    "coco": Reader("COCO", coco.LISTS.fit, coco.read, (".json",)),
    "label-studio": Reader("Label Studio", label_studio.LISTS.fit, label_studio.read, (".json",)),
    "cvat": Reader("CVAT", cvat.LISTS.fit, cvat.read, (".xml",)),
    "yolo": Reader("YOLO", yolo.is_yolo, yolo.read),
    "folders": Reader("one folder per class", folders.fits, folders.read),
}
"""In the order of docs/data.md. An inbox is nothing else; folders are classes if there is no list of any kind."""


@dataclass(frozen=True)
class Unsupported:
    """A layout that is recognised and not read, with the remedy."""

    title: str
    fits: Callable[[Path], bool]
    remedy: str


_PACKED = re.compile(r".*\.(zip|tar|tgz|tar\.gz|7z|rar|parquet|arrow|tfrecords?|h5|hdf5|npz|mat)", re.IGNORECASE)
_TAGS = "list the tags in tags.csv, with the header image,tags, or sort the photos into a folder per class"
_NAMED = "name the data set's folder or its list, and save tags as CSV, with the header image,tags"
_MASKS = "tags are not read from masks"
_SUFFIX = "|".join(map(re.escape, sorted(PHOTO_SUFFIXES)))
_TAGGED = re.compile(rf"[^\n]*({_SUFFIX})[\"']?[ \t,;|]+\S".encode(), re.IGNORECASE)

UNSUPPORTED = (
    Unsupported(
        "Supervisely",
        lambda root: any(any(root.glob(pattern)) for pattern in ("ann/*.json", "*/ann/*.json")),
        "export the project as COCO or Pascal VOC",
    ),
    Unsupported(
        "LabelMe",
        lambda root: _begins(root, rb'\s*\{.*"shapes"\s*:\s*\['),
        "convert it to COCO or VOC with labelme2coco or labelme2voc",
    ),
    Unsupported(
        "VGG Image Annotator",
        lambda root: _begins(root, rb'\s*\{.*"(_via_\w*|regions|file_attributes)"\s*:'),
        "export it as COCO",
    ),
    Unsupported(
        "PASCAL VOC without tags",
        lambda root: (root / "JPEGImages").is_dir() or (root / "SegmentationClass").is_dir(),
        f"{_MASKS}, so add Annotations/<id>.xml or ImageSets/Main/<class>_<split>.txt",
    ),
    Unsupported(
        "a list of tags in .txt",
        lambda root: any(_TAGGED.match(head(path)) for path in sorted(root.glob("*.txt"))),
        "save it as tags.csv, with the header image,tags and lines such as a.jpg,cat dog",
    ),
    Unsupported(
        "photos and their masks",
        folders.has_masks,
        f"{_MASKS}, so {_TAGS}",
    ),
    Unsupported(
        "packed photos", lambda root: any(_PACKED.fullmatch(path.name) for path in root.iterdir()), "unpack them"
    ),
)
"""In the order in which they are tried, after all that can be read."""

SUPPORTED = f"supported are {', '.join(reader.title for reader in READERS.values())}; see docs/data.md"


class UnknownLayoutError(DataError):
    """No layout fits."""


def read_listing(root: Path, split: str | None = None, format: Format | None = None) -> Listing:
    """All photos at `root`, or in one split, with all their tags.

    Raises DataError when no layout fits, or several that disagree, or not the requested `format`, the split is unknown,
    or a folder cannot be read.
    """
    root = local_path(root)
    try:
        if root.is_dir():
            next(root.iterdir(), None)  # raises for the folder itself, not for what a layout has in it
        return _read_root(root, split, format)
    except OSError as fault:
        raise unreadable(Path(fault.filename or root), fault) from fault


def _read_root(root: Path, split: str | None, format: Format | None) -> Listing:
    suffix = _suffix(root)
    known = [name for name, reader in READERS.items() if root.is_dir() or suffix in reader.lists]
    if not known:
        what = f"a {suffix} file is not read, {_NAMED}" if suffix else "no such folder or list"
        raise DataError(f"{root}: {what}; {SUPPORTED}")
    if format is not None and format not in known:
        raise DataError(
            f"{root}: a {suffix} file is not in the format {format}; name the data set's folder or its list"
        )
    return _read(root, split, format)


def _read(root: Path, split: str | None, format: Format | None) -> Listing:
    if name := _detect(root, format):
        listing = READERS[name].read(root, split)
        listing.layout = READERS[name].title
        return listing
    inner = folders.filled(root) if root.is_dir() else []
    try:
        if inner and all(map(folders.is_split, inner)):
            return _read_splits(root, {folder.name: folder for folder in inner}, split, format)
        if len(inner) == 1 and not folders.has_photo(root):
            return _read(inner[0], split, format)
    except UnknownLayoutError as fault:
        raise _unsupported(root) or fault from fault
    if format is not None:
        return READERS[format].read(root, split)
    raise _unsupported(root) or _unknown(root)


def _read_splits(root: Path, parts: Mapping[str, Path], split: str | None, format: Format | None) -> Listing:
    """A folder per split, each a data set. One without tags, as test sets often are, is a fault if others have some."""
    if split is not None and split not in parts:
        raise unknown_split(root, split, parts)
    listings: dict[str, Listing] = {}
    failures: dict[str, DataError] = {}
    for name, folder in parts.items():
        if split in (None, name):
            try:
                listings[name] = _read(folder, None, format)
            except DataError as fault:
                failures[name] = fault
    if not listings:
        raise next(iter(failures.values()))
    listing = merge(listings)
    listing.root = root
    listing.layout += f", in {', '.join(f'{name}/' for name in listings)}"
    for name, part in listings.items():  # with links unresolved, as in other layouts
        for photo in part.photos.values():
            if merged := listing.photos.get(f"{name}/{photo.id}"):
                listing.photos[merged.id] = replace(merged, path=photo.path)
    for name, failure in failures.items():
        listing.fault(f"{name}/", f"left out: {str(failure).removeprefix(f'{parts[name]}: ')}")
    return listing


def _detect(root: Path, format: Format | None) -> Format | None:
    """The layout of `root`. Raises DataError where it is open which."""
    names = [format] if format else [name for name in READERS if root.is_dir() or _suffix(root) in READERS[name].lists]
    if fitting := [name for name in names if name != "folders" and READERS[name].fits(root)]:
        if fitting[0] != "samples":
            _demand_agreement(root, fitting)
        return fitting[0]
    return "folders" if "folders" in names and folders.fits(root) and (format or _are_classes(root)) else None


def _demand_agreement(root: Path, fitting: Sequence[Format]) -> None:
    tags = _tags(root, fitting[0]) if len(fitting) > 1 else None
    for other in fitting[1:]:
        if _tags(root, other) != tags:
            why = f"may be read as {READERS[fitting[0]].title} or as {READERS[other].title}, which have different tags"
            raise DataError(f"{root}: {why}; choose --format {fitting[0]} or --format {other}")


def _are_classes(root: Path) -> bool:
    """Whether the folders in `root` are classes and not data sets. Raises DataError where it is open."""
    if why := folders.ambiguity(root):
        raise DataError(f"{root}: {why}")
    classes = folders.class_folders(root)
    inner = next(filter(_is_data_set, classes), None)
    if inner and len(classes) > 1:
        why = f"{inner.name}/ may be a class or a data set; choose --format folders for a class, or name each data set"
        raise DataError(f"{root}: {why}, such as {inner}")
    return inner is None


def _is_data_set(folder: Path) -> bool:
    """Whether a folder of photos contains a list of them."""
    lists = {suffix for reader in READERS.values() for suffix in reader.lists}
    if not any(path.suffix.lower() in lists for path in folder.iterdir()):
        return False
    return any(reader.fits(folder) for name, reader in READERS.items() if name != "folders")


def _tags(root: Path, name: Format) -> dict[Path, tuple[str, ...]] | None:
    """The tags of each photo as one layout has them, without background; None for what cannot be read."""
    try:
        photos = READERS[name].read(root, None).photos.values()
    except DataError:
        return None
    return {photo.path: tuple(tag for tag in photo.tags if tag != BACKGROUND) for photo in photos}


def _unsupported(root: Path) -> UnknownLayoutError | None:
    """The error for a folder that is recognised, or holds a list without the needed columns; None for others."""
    if not root.is_dir():
        return None
    if found := next((each for each in UNSUPPORTED if each.fits(root)), None):
        return UnknownLayoutError(f"{root}: looks like {found.title}, which cannot be read; {found.remedy}")
    for path in tables.lists(root):
        try:
            fault = next(iter(tables.read(path, None).faults), None)
        except DataError as error:
            return UnknownLayoutError(str(error))
        if fault:
            return UnknownLayoutError(f"{root / fault.where}: {fault.why}")
    return None


def _unknown(root: Path) -> UnknownLayoutError:
    if root.is_file():
        names = " or ".join(name for name, reader in READERS.items() if _suffix(root) in reader.lists)
        how = "choose its format with --format, or list the tags in a .csv or .json, as docs/data.md says"
        return UnknownLayoutError(f"{root}: is not recognised as {names}; {how}")
    if inner := [each for each in folders.subfolders(root) if any(reader.fits(each) for reader in READERS.values())]:
        return UnknownLayoutError(f"{root}: contains data sets, and is none itself; name each, such as {inner[0]}")
    if folders.has_photo(root) and (files := sorted((*root.glob("*.json"), *root.glob("*.xml")))):
        return _unknown(files[0])
    if folders.has_photo(root):
        return UnknownLayoutError(f"{root}: contains photos, but no tags; {_TAGS}")
    entries = sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in root.iterdir())
    return UnknownLayoutError(f"{root}: no known layout, it contains {some(entries, 8) or 'nothing'}; {SUPPORTED}")


def _suffix(path: Path) -> str:
    return f".{path.name.rpartition('.')[2]}".lower() if path.is_file() else ""


def _begins(root: Path, pattern: bytes) -> bool:
    """Whether one of the first JSON files in `root` begins with `pattern`."""
    files = islice(sorted(root.glob("*.json")), 3)
    return any(re.match(pattern, head(path), re.DOTALL) for path in files)
