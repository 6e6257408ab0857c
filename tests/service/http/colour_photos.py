"""Photos in the colours of the colour bundle, whose masks are therefore known to the pixel."""

import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.training.colour_bundle import COLOURS

Mask = NDArray[np.uint8]

BACKGROUND, CAT, DOG = range(3)

MASK: Mask = np.kron(
    np.array([[0, 1, 1, 0], [0, 0, 2, 2], [1, 0, 0, 2]], dtype=np.uint8), np.ones((16, 16), dtype=np.uint8)
)
"""(48, 64), smaller than the bundle's working size, and different in each of the eight orientations."""


def picture(mask: Mask = MASK) -> Image.Image:
    """The RGB photo of which `mask` is the mask."""
    return Image.fromarray(np.array(list(COLOURS.values()), dtype=np.uint8)[mask])


def encoded(image: Image.Image | None = None, kind: str = "PNG", **options: Any) -> bytes:
    """`image` as a file of type `kind`; JPEG in its best quality, as colours must last."""
    if kind in ("JPEG", "MPO"):
        options = {"quality": 98, "subsampling": 0} | options
    target = BytesIO()
    (image or picture()).save(target, kind, **options)
    return target.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and has no pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def decoded(content: bytes) -> Mask:
    """The mask in an answer of format `png`."""
    image = Image.open(BytesIO(content))
    assert (image.format, image.mode) == ("PNG", "P")
    return np.array(image)


def only(*labels: int) -> Mask:
    """MASK where no labels but background and `labels` may appear: cat and dog are nearer to background than to each
    other."""
    return np.where(np.isin(MASK, labels), MASK, BACKGROUND).astype(np.uint8)
