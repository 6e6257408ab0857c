"""Copies of photos, for formats that have them beside their annotations."""

import shutil
from collections.abc import Collection, Iterable
from pathlib import Path

from PIL import Image

from tagmask import files
from tagmask.errors import DataError
from tagmask.photos import SUFFIXES, decode_file
from training.datasets.photos import Photo

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


def flat_names(photos: Iterable[Photo]) -> dict[str, str]:
    """A name without folders for each id: "cat_1" for "cat/1". Raises DataError where two would be the same."""
    owners: dict[str, str] = {}
    for photo in photos:
        name = photo.id.replace("/", "_")
        if (other := owners.setdefault(name, photo.id)) != photo.id:
            raise DataError(f"photos {other!r} and {photo.id!r} would both be called {name!r}; rename one of them")
    return {identity: name for name, identity in owners.items()}
