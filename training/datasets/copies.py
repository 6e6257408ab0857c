"""Copies of photos, for formats that have them beside their annotations."""

import re
import shutil
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path

from PIL import Image

from tagmask import files
from tagmask.errors import DataError
from tagmask.photos import SUFFIXES, decode_file
from tagmask.progress import Advance
from training.datasets.paths import MAX_NAME
from training.datasets.photos import Photo, TaggedPhotos

QUALITY = 95
"""Of JPEGs that are encoded, 0 to 100."""


def copy_photo(
    photo: Photo, folder: Path, name: str, media_types: Collection[str] = ("image/jpeg", "image/png")
) -> str:
    """Put the photo as `folder`/<name>.jpg or .png, unless it exists, and return that file's name.

    It is copied unchanged when it is of one of `media_types` and stored upright; else it is written as JPEG, upright,
    as not all tools turn photos or read phones' formats. Raises DataError for one that cannot be read.
    """
    decoded = decode_file(photo.path)
    unchanged = decoded.media_type in media_types and not decoded.turned
    path = folder / f"{name}{SUFFIXES[decoded.media_type] if unchanged else '.jpg'}"
    if not path.is_file():
        with files.atomic_write(path) as file:
            if unchanged:
                with files.open_file(photo.path) as source:
                    shutil.copyfileobj(source, file)
            else:
                Image.fromarray(decoded.pixels).save(file, "JPEG", quality=QUALITY, subsampling=0)
    return path.name


def with_copies(data: TaggedPhotos, root: Path, folder: str, advance: Advance) -> TaggedPhotos:
    """The same data at `root`, with copies of its photos in `root`/`folder`; `advance(1)` follows each."""
    photos = []
    for photo in data.photos:
        copy = root / folder / photo.id
        photos.append(replace(photo, path=copy.with_name(copy_photo(photo, copy.parent, copy.name))))
        advance(1)
    return replace(data, root=root, photos=tuple(photos))


def flat_names(photos: Iterable[Photo]) -> dict[str, str]:
    """A name without folders and blanks, and not hidden, for each id: "my_cat_1" for "my cat/1".

    Raises DataError where two would be the same, and for one that is too long.
    """
    owners: dict[str, str] = {}
    for photo in photos:
        name = re.sub(r"^\.|[/\s]", "_", photo.id)
        if len(name.encode()) > MAX_NAME - len(".jpg"):
            raise DataError(
                f"photo {photo.id[:40]!r}…: its name and its folders are too long in one name; shorten them"
            )
        if (other := owners.setdefault(name, photo.id)) != photo.id:
            raise DataError(f"photos {other!r} and {photo.id!r} would both be called {name!r}; rename one of them")
    return {identity: name for name, identity in owners.items()}
