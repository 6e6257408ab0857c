"""A folder per class: <class>/<photo>; the tag of a photo is the name of its class's folder, at whatever depth it is.

Optional are splits/<split>.txt (ids "class/stem", one per line), and masks/<class>/<stem>.png with classes.txt.
"""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path

from tagmask.photos import PHOTO_SUFFIXES
from tagmask.wording import count
from training.datasets.listing import Listing
from training.datasets.paths import path_fault
from training.datasets.photos import Photo

OWN = frozenset({"masks", "corrections", "splits"})
"""Folders of this layout that are not classes."""

_WRITTEN = ("ledger.jsonl", "data/catalogue.sqlite")
"""Files by which folders are known that Tagmask writes, and that may lie beside classes: of a run, and a workspace."""

_PART = r"(train|training|val|valid|validation|dev|test|testing)([\W_]*\d{4})?"
_SPLIT = re.compile(_PART, re.IGNORECASE)
_PHOTOS = re.compile(
    rf"({_PART}[\W_]*)?(images?|imgs?|photos|pictures|jpegimages|leftimg8bit)([\W_]*\d)?", re.IGNORECASE
)
_MASKS = re.compile(
    rf"({_PART}[\W_]*)?(masks?|msks?|corrections|labels?|ann|annot|annotations?|gt|gtfine|ground[_-]?truths?|"
    r"segmentation(class|object)?|imagesets)([\W_]*\d)?",
    re.IGNORECASE,
)
"""Folders of photos, and of masks and annotations, in other layouts."""

_NUMBERED = re.compile(r"[^\W\d_]*[\W_]*\d{1,4}([\W_]+\d{1,4})*|\d+")
"""Names such as 2023, 2023-05-01, day1 and IMG_0001, which are no classes below the folder of a class."""

_MASK = re.compile(r"(?<=.)[\W_]+(masks?|gt|seg|segmentation)([\W_]*\d+)?$", re.IGNORECASE)


def subfolders(folder: Path) -> list[Path]:
    """Folders in `folder`, sorted, without hidden ones, those that systems leave behind, and runs and workspaces."""
    return sorted(path for path in folder.iterdir() if _is_shown(path) and path.is_dir())


def has_photo(folder: Path) -> bool:
    """Whether there is a photo in `folder` itself."""
    return any(map(_is_photo, folder.iterdir()))


def filled(root: Path) -> list[Path]:
    """The folders in `root` with photos at any depth."""
    return [folder for folder in subfolders(root) if any(photo_files(folder))]


def is_split(folder: Path) -> bool:
    """Whether a folder is called like a part of a data set, such as train, valid or val2017."""
    return _SPLIT.fullmatch(folder.name) is not None


def is_foreign(folder: Path) -> bool:
    """Whether a folder is called like those of photos, masks or annotations in other layouts."""
    return _PHOTOS.fullmatch(folder.name) is not None or is_mask_folder(folder)


def is_mask_folder(folder: Path) -> bool:
    """Whether a folder is called like those of masks or annotations."""
    return _MASKS.fullmatch(folder.name) is not None


def fits(root: Path) -> bool:
    """Whether folders in `root` are classes, and not folders of other data sets."""
    classes = class_folders(root) if root.is_dir() else []
    if all(is_foreign(folder) or is_split(folder) for folder in classes):
        return False
    inner = (next(photo_files(folder)).relative_to(folder).parents for folder in classes)
    return not any(map(is_foreign, chain.from_iterable(inner)))


def class_folders(root: Path) -> list[Path]:
    """Folders of the classes, sorted; empty if `root` has none, only those of splits, or one around the classes."""
    folders = [folder for folder in filled(root) if folder.name not in OWN]
    if all(map(is_split, folders)):
        return []
    if len(folders) == 1 and not has_photo(folders[0]) and not all(map(_is_numbered, filled(folders[0]))):
        return []
    return folders


def has_masks(root: Path) -> bool:
    """Whether `root`, or a folder in it, has a folder of masks, or a photo called like the mask of another one."""
    places = (root, *filled(root))
    return any(is_mask_folder(folder) for place in places for folder in filled(place)) or any(
        _is_photo(path) and _is_mask(path) for place in places for path in place.iterdir()
    )


def ambiguity(root: Path) -> str | None:
    """What to do if it is open which folders are the classes, or None."""
    folders = class_folders(root)
    for folder in folders:
        outer = f"{folder.name}/"
        if is_foreign(folder):
            return f"{outer} may be a class, or photos or masks; choose --format folders for a class, or else move it"
        if not has_photo(folder) and (
            len(folders) == 1 or not all(is_split(inner) or _is_numbered(inner) for inner in filled(folder))
        ):
            return (
                f"either {outer} or {outer}{filled(folder)[0].name}/ may be a class; choose --format folders for the "
                f"former, and for the latter name each folder around classes, such as {folder}"
            )
    return None


def read(root: Path, split: str | None) -> Listing:
    """Read the photos of all class folders, or those of a split. Raises DataError for an unknown split."""
    listing = Listing(root)
    classes = class_folders(root)
    for folder in subfolders(root):
        if folder in classes:
            _read_class(folder, listing)
        elif folder.name not in OWN:
            others = [path.name for path in _files(folder)]
            only = f", only {count(len(others), 'item')} such as {others[0]!r}" if others else ""
            listing.fault(f"{folder.name}/", f"class folder without photos{only}; add photos or remove it")
    if loose := sum(map(_is_photo, root.iterdir())):
        listing.fault(root.name, f"{count(loose, 'photo')} in no class folder; left out")
    if split is not None:
        listing.keep_split(split)
    listing.attach_masks()
    return listing


def _is_numbered(folder: Path) -> bool:
    return _NUMBERED.fullmatch(folder.name) is not None


def _read_class(folder: Path, listing: Listing) -> None:
    tags = listing.tags([folder.name], f"{folder.name}/")
    photos, others = list[Path](), list[str]()
    for path in _files(folder):
        if _is_photo(path):
            photos.append(path)
        else:
            others.append(path.name)
    masks = {path: path.name for path in photos if _is_mask(path)}
    for path in photos:
        name = path.relative_to(folder.parent)
        if fault := path_fault(name.as_posix()):
            listing.fault(name.as_posix(), fault)
        elif path not in masks:
            listing.add(Photo(name.with_suffix("").as_posix(), path, tags), name.as_posix())
    if masks:
        listing.fault(
            f"{folder.name}/", f"ignored {count(len(masks), 'mask')} beside photos, such as {min(masks.values())!r}"
        )
    if others:
        listing.fault(
            f"{folder.name}/", f"ignored {count(len(others), 'item')} other than photos, such as {others[0]!r}"
        )


def photo_files(folder: Path) -> Iterator[Path]:
    """The photos in `folder` and in all folders below it, sorted."""
    return filter(_is_photo, _files(folder))


def _files(folder: Path) -> Iterator[Path]:
    """The visible files in `folder` and in all folders below it, and links to folders, which are not followed.

    Raises OSError for a folder that cannot be read.
    """
    for parent, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = sorted(name for name in folders if _is_shown(Path(parent, name)))
        links = (name for name in folders if Path(parent, name).is_symlink())
        yield from (Path(parent, name) for name in sorted(chain(names, links)) if not name.startswith("."))


def _refuse(fault: OSError) -> None:
    raise fault


def _is_mask(path: Path) -> bool:
    """Whether a photo is called like the mask of another one: 1_mask.png beside 1.jpg."""
    stem = _MASK.sub("", path.stem)
    return stem != path.stem and any(path.with_name(f"{stem}{suffix}").is_file() for suffix in PHOTO_SUFFIXES)


def _is_shown(folder: Path) -> bool:
    """Whether a folder is neither hidden nor left behind by a system, as __MACOSX is, nor written by Tagmask."""
    return not folder.name.startswith((".", "__", "@")) and not _is_written(folder)


def _is_written(folder: Path) -> bool:
    """Whether a folder is a run or a workspace; of one that cannot be read, nothing is known."""
    with suppress(PermissionError):
        return any((folder / each).is_file() for each in _WRITTEN)
    return False


def _is_photo(path: Path) -> bool:
    return path.suffix.lower() in PHOTO_SUFFIXES and not path.name.startswith(".") and path.is_file()
