"""Photos of a data set that is written, for formats that have them beside their annotations."""

import shutil
from collections.abc import Collection, Iterable
from pathlib import Path

from PIL import Image

from tagmask import files
from tagmask.errors import DataError
from tagmask.photos import read_photo
from training.datasets.photos import Photo

QUALITY = 95
"""Of JPEG that is written anew, 0 to 100."""

_ORIENTATION = 0x0112  # of EXIF; from 2 to 8 what is stored lies otherwise than it is displayed


def copy_photo(photo: Photo, folder: Path, name: str, formats: Collection[str] = ("JPEG", "PNG")) -> str:
    """Put the photo as `folder`/<name>.jpg or .png, unless it is there, and give that file's name.

    It is copied as it is when it has one of `formats` and is stored as it is displayed; else it is written as JPEG,
    upright, as not all tools turn photos or read phones' formats. Raises DataError for one that cannot be read.
    """
    try:
        with Image.open(photo.path) as image:
            form = "JPEG" if image.format == "MPO" else image.format
            as_it_is = form in formats and image.getexif().get(_ORIENTATION, 1) not in range(2, 9)
    except Exception as fault:  # Pillow's decoders raise OSError, ValueError, SyntaxError, struct.error and more
        why = f"not a readable photo any more ({fault}); put it back, or remove its mask {photo.mask}"
        raise DataError(f"{photo.path}: {why}") from fault
    path = folder / f"{name}{'.png' if as_it_is and form == 'PNG' else '.jpg'}"
    if not path.is_file():
        pixels = None if as_it_is else Image.fromarray(read_photo(photo.path))
        with files.atomic_write(path) as file:
            if pixels:
                pixels.save(file, "JPEG", quality=QUALITY, subsampling=0)
            else:
                with photo.path.open("rb") as source:
                    shutil.copyfileobj(source, file)
    return path.name


def flat_names(photos: Iterable[Photo]) -> dict[str, str]:
    """A name without folders for each id: "cat_1" for "cat/1". Raises DataError where two would be the same."""
    owners: dict[str, str] = {}
    for photo in photos:
        name = photo.id.replace("/", "_")
        if (other := owners.setdefault(name, photo.id)) != photo.id:
            raise DataError(f"photos {other!r} and {photo.id!r} would both be called {name!r}; rename one of them")
    return {identity: name for name, identity in owners.items()}
