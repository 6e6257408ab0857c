"""A folder per class: <class>/<photo>; the tag of a photo is its folder's name.

Optional are splits/<split>.txt (ids "class/stem", one per line), and masks/<class>/<stem>.png with classes.txt.
"""

from pathlib import Path

from tagmask.photos import PHOTO_SUFFIXES
from tagmask.wording import count
from training.datasets.listing import Listing, path_fault
from training.datasets.photos import Photo

RESERVED = frozenset({"masks", "splits", "images", "JPEGImages", "SegmentationClass"})
"""Folders that are never a class: those of this layout, and those of other layouts, whose list is then missing."""


def class_folders(root: Path) -> list[Path]:
    """Folders of the classes, sorted; empty if no folder below `root` contains a photo."""
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    folders = [path for path in folders if path.name not in RESERVED]
    return folders if any(_is_photo(file) for folder in folders for file in folder.iterdir()) else []


def read(root: Path, split: str | None) -> Listing:
    """Read the photos of all class folders, or those of a split. Raises DataError for an unknown split."""
    listing = Listing(root)
    for folder in class_folders(root):
        _read_class(folder, listing)
    if split is not None:
        listing.keep_split(split)
    listing.attach_masks()
    return listing


def _read_class(folder: Path, listing: Listing) -> None:
    tags = listing.tags([folder.name], f"{folder.name}/")
    others = []
    photos = 0
    for path in sorted(folder.iterdir()):
        where = f"{folder.name}/{path.name}"
        if not _is_photo(path):
            others += [] if path.name.startswith(".") else [path.name]
        elif fault := path_fault(where):
            listing.fault(where, fault)
        else:
            listing.add(Photo(f"{folder.name}/{path.stem}", path, tags), where)
            photos += 1
    if others:
        listing.fault(
            f"{folder.name}/", f"ignored {count(len(others), 'item')} other than photos, such as {others[0]!r}"
        )
    if not photos:
        listing.fault(f"{folder.name}/", "class folder without photos; add photos or remove it")


def _is_photo(path: Path) -> bool:
    return path.suffix.lower() in PHOTO_SUFFIXES and not path.name.startswith(".") and path.is_file()
