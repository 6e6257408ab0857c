"""What callers pass in: paths, photos in any form, tags, refinement, tiles and precision."""

import re
from collections.abc import Collection, Iterable
from io import BytesIO
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from tagmask.errors import ConfigError, Unprocessable

if TYPE_CHECKING:
    from tagmask.segmentation import Pixels

Photo: TypeAlias = "str | PathLike[str] | bytes | Pixels"
"""A file's path, a file's bytes in any supported type, or (H, W, 3) uint8 RGB."""

Tags = str | Iterable[str] | None
"""Tags, each of which may hold several separated by commas; without any, all classes are meant."""

Location: TypeAlias = Path | str
"""A path of this machine, or the URL of a place in object storage."""

Refine = Literal["smooth", "crf", "none"]
"""What follows the network: edge-aware smoothing, DenseCRF, or nothing."""

REFINEMENTS: tuple[Refine, ...] = get_args(Refine)

MAX_PIXELS = 100_000_000
"""Maximum pixels of a photo in a file."""

LOW_CONFIDENCE = 0.6
"""Expected IoU below which a mask has low confidence: most of the pretrained model's have a true IoU below 0.5 then."""

MIN_TILE, MAX_TILE = 32, 65_535
"""Least and greatest side of a tile, in pixels of the photo; 0 stands for no tiles."""

Precision = Literal["fp32", "fp16", "int8"]
"""Number format of a network's weights and computation."""

_SCHEMES = ("s3", "gs", "az")
_OBJECTS = re.compile(rf"(?:{'|'.join(_SCHEMES)})://[A-Za-z0-9][A-Za-z0-9._-]*(?:/[^?#]*)?")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def is_url(text: str) -> bool:
    """Whether `text` is a URL, or what `Path` makes of one, such as s3:/bucket/photos."""
    return _SCHEME.match(text) is not None


def location(path: str | PathLike[str]) -> Location:
    """`path` as a Path, or as it is if it is a URL of object storage. Raises ConfigError for other URLs."""
    text = fspath(path)
    if not is_url(text):
        return Path(path)
    if not _OBJECTS.fullmatch(text):
        schemes = ", ".join(f"{each}://bucket/prefix" for each in _SCHEMES)
        raise ConfigError(f"{text}: not supported; give a path on this machine, or a URL such as {schemes}")
    return text


def absolute_location(path: str | PathLike[str]) -> Location:
    """`path` as `location` has it, and absolute unless it is a URL."""
    place = location(path)
    return place.absolute() if isinstance(place, Path) else place


def local_path(path: str | PathLike[str]) -> Path:
    """`path` as a Path. Raises ConfigError for a URL, which would otherwise name a folder of this machine."""
    if is_url(text := fspath(path)):
        raise ConfigError(f"{text}: URLs are not supported; mount or copy it, and give its path on this machine")
    return Path(path)


def photo_bytes(image: Photo, packed: Literal["PNG", "BMP"] = "PNG") -> bytes:
    """The bytes of a photo; an array is `packed` as PNG, which is small, or as BMP, which is fast.

    Raises OSError for a file that cannot be read, ConfigError for a URL, ValueError for an array of another shape or
    dtype.
    """
    import numpy as np  # here, as the command line needs this module for its help
    from PIL import Image

    from tagmask import files

    if isinstance(image, bytes):
        return image
    if not isinstance(image, np.ndarray):
        return files.read_bytes(local_path(image))
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"image is an array {image.shape} of {image.dtype}; pass (H, W, 3) of uint8, in RGB order")
    target = BytesIO()
    Image.fromarray(image).save(target, packed, compress_level=1)
    return target.getvalue()


def split_tags(tags: Tags) -> tuple[str, ...]:
    """Each tag once, in order, without blanks around it; none for None, and for empty texts."""
    texts = [tags] if isinstance(tags, str) else () if tags is None else tags
    return tuple(dict.fromkeys(tag for text in texts for part in text.split(",") if (tag := part.strip())))


def check_choice(field: str, value: str, choices: Collection[str]) -> None:
    """Raise Unprocessable, naming `field` and the choices, unless `value` is one of them."""
    if value not in choices:
        known = ", ".join(choices)
        raise Unprocessable(
            f"{field} {value[:100]!r} is not one of {known}", code=f"bad_{field}", field=field, limit=known
        )


def check_tile(tile: int | str | None) -> int | None:
    """The side of a tile, in pixels, from a number or its text, 0 for no tiles; None for None and for an empty text.

    Raises Unprocessable for anything but 0 and MIN_TILE to MAX_TILE.
    """
    text = "" if tile is None else str(tile)
    if not text:
        return None
    side = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(MAX_TILE)) else -1
    if side != 0 and not MIN_TILE <= side <= MAX_TILE:
        allowed = f"0 or {MIN_TILE} to {MAX_TILE}"
        raise Unprocessable(
            f"tile {text[:100]!r} is not {allowed} pixels", code="bad_tile", field="tile", limit=allowed
        )
    return side
