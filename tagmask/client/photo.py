"""What a caller has of a photo, as bytes that the service reads; what it wants of it, as the service's text fields."""

from collections.abc import Iterable
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from tagmask.segmentation import Pixels

Photo = str | PathLike[str] | bytes | Pixels
"""A file's path, a file's bytes in any type that the service reads, or (H, W, 3) uint8 RGB."""

Refine = Literal["none", "crf"]
Format = Literal["confidence", "overlay", "coco", "polygons", "label-studio", "cvat", "json"]
"""What can be asked for beside the mask."""

Tags = str | Iterable[str]
Fields = dict[str, list[str]]


def photo_bytes(image: Photo, packed: Literal["PNG", "BMP"] = "PNG") -> bytes:
    """The bytes of a photo; an array `packed` small for the way to a service, or fast for this process.

    Raises OSError for a file that cannot be read, ValueError for an array of another shape or dtype.
    """
    if isinstance(image, bytes):
        return image
    if not isinstance(image, np.ndarray):
        return Path(image).read_bytes()
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"image is an array {image.shape} of {image.dtype}; give (H, W, 3) of uint8, in RGB order")
    target = BytesIO()
    Image.fromarray(image).save(target, packed, compress_level=1)
    return target.getvalue()


def text_fields(tags: Tags, **others: str) -> Fields:
    """The values of each field; one tag may be given by itself."""
    return {"tags": [tags] if isinstance(tags, str) else list(tags), **{name: [text] for name, text in others.items()}}


def orders(tags: Tags, refine: Refine, formats: Iterable[Format]) -> dict[str, Fields]:
    """The fields that ask for the mask and for each of `formats`, by format."""
    fields = text_fields(tags, refine=refine)
    return {name: fields | {"format": [name]} for name in ("png", *formats)}
