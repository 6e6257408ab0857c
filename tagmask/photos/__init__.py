"""Photos as they are displayed, from bytes or a file: one decoder for training, command line, flows and service.

The type is recognised from the bytes, never from a name or header, and only that type's reader sees them.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageFile, JpegImagePlugin, TiffImagePlugin

from tagmask import files
from tagmask.errors import DataError
from tagmask.inputs import MAX_PIXELS
from tagmask.photos.readers import READERS, Tape, TooManyReadsError, stated_length, webp_size
from tagmask.photos.recognition import MEDIA_TYPES, PHOTO_SUFFIXES, SUFFIXES, recognise
from tagmask.photos.refusals import PhotoRefusedError
from tagmask.photos.rendering import pixels_of, render
from tagmask.segmentation import Pixels

__all__ = [
    "MAX_BYTES", "MAX_SIDE", "MEDIA_TYPES", "PHOTO_SUFFIXES", "SUFFIXES",
    "DecodedPhoto", "LongSide", "decode", "decode_file", "read_photo", "scale_to", "scaled_size",
]  # fmt: skip

MAX_SIDE = 65_535
"""Longest side of a photo, in pixels: what JPEG can hold. Readers spend memory on every row, however short."""

MAX_BYTES = 1_000_000_000
"""Maximum bytes of a photo in a file."""

LongSide = int | Callable[[int], int] | None
"""The longer side to scale a photo down to, in pixels, or its function of the photo's own; None does not scale."""

_PASSED_PIXELS = 1_500_000_000  # pixels times passes of a progressive JPEG: a few seconds, whatever its bytes
_CUT_OFF = re.compile(r"truncat|end[ -]of[ -](file|data)|unexpected end|incomplete|premature|not enough", re.IGNORECASE)


@dataclass(frozen=True)
class DecodedPhoto:
    """A photo as it is displayed: orientation applied, alpha composed on white, 8 bits per channel.

    `pixels` (h, w, 3) uint8 RGB, scaled down to the requested long side; `size` (H, W) in pixels of the original as
    displayed; `media_type` of the bytes, such as "image/jpeg"; `turned` if its EXIF orientation was applied.
    """

    pixels: Pixels
    size: tuple[int, int]
    media_type: str
    turned: bool = False


def decode(data: bytes, *, long_side: LongSide, max_pixels: int) -> DecodedPhoto:
    """Decode the photo in `data`, the field `image` of a request, scaled down to at most `long_side` pixels.

    An animation gives its first frame. Any number of threads may call this at once. Whatever the bytes, only these
    are raised, naming the field: TooLarge for more than `max_pixels`, checked in the header before anything is decoded,
    or for a side above MAX_SIDE; UnsupportedType for a known type that is not decoded; else Unprocessable with the code
    empty_image, url_not_fetched, not_an_image, truncated_image or broken_image.
    """
    try:
        return _decode(data, long_side, max_pixels)
    except PhotoRefusedError as fault:
        raise fault.for_request(MEDIA_TYPES) from fault


def decode_file(path: Path, long_side: LongSide = None, max_pixels: int = MAX_PIXELS) -> DecodedPhoto:
    """Decode the photo at `path`, scaled down to at most `long_side` pixels.

    Raises DataError, naming the file, for anything but a regular file, more than MAX_BYTES or `max_pixels`, and
    whatever cannot be decoded.
    """
    try:
        return _decode(files.read_bytes(path, MAX_BYTES), long_side, max_pixels)
    except FileNotFoundError as fault:
        raise DataError(f"{path}: photo not found; put it back or remove it from the list") from fault
    except OSError as fault:
        raise DataError(f"{path}: {files.read_fault(fault)}") from fault
    except PhotoRefusedError as fault:
        raise fault.for_file(path) from fault


def read_photo(path: Path, long_side: int | None = None) -> Pixels:
    """The pixels of the photo at `path`: (H, W, 3) uint8 RGB. Raises as `decode_file` does."""
    return decode_file(path, long_side).pixels


def scaled_size(size: tuple[int, int], long_side: int) -> tuple[int, int]:
    """The (a, b) size in pixels whose longer side is `long_side`, in the proportions of `size`, no side below 1."""
    scale = long_side / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def scale_to(pixels: Pixels, long_side: int, least: int) -> Pixels:
    """`pixels`, (H, W, 3) uint8 RGB, with the given longer side, and sides below `least` stretched to it."""
    width, height = scaled_size((pixels.shape[1], pixels.shape[0]), long_side)
    size = max(width, least), max(height, least)
    if size == (pixels.shape[1], pixels.shape[0]):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))


def _decode(data: bytes, long_side: LongSide, max_pixels: int) -> DecodedPhoto:
    media_type = recognise(data)
    tape = Tape(data)
    try:
        return _read(tape, media_type, long_side, max_pixels)
    except PhotoRefusedError:
        raise
    except Image.DecompressionBombError as fault:  # Pillow's own limit, met before the size is known to us
        raise PhotoRefusedError("too_many_pixels", f"has more than {max_pixels} pixels", max_pixels) from fault
    except TooManyReadsError as fault:
        raise PhotoRefusedError("broken_image", f"is {media_type} cut into too many pieces") from fault
    except Exception as fault:  # decoders raise all kinds: OSError, SyntaxError, struct.error, MemoryError, …
        if tape.ran_out or stated_length(data) > len(data) or _CUT_OFF.search(str(fault)):
            raise PhotoRefusedError("truncated_image", f"is {media_type} cut off after {len(data)} bytes") from fault
        raise PhotoRefusedError("broken_image", f"cannot be decoded as {media_type}") from fault


def _read(tape: Tape, media_type: str, long_side: LongSide, max_pixels: int) -> DecodedPhoto:
    data = tape.getvalue()
    if media_type == "image/webp":  # its decoder reserves the canvas when it is opened
        _check_size(webp_size(data), max_pixels)
    image = READERS[media_type](tape)
    _check_size(image.size, max_pixels)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        _check_tiff(image, max_pixels)
    elif isinstance(image, JpegImagePlugin.JpegImageFile):
        _check_passes(image, data)
    tape.leave_header()
    full = image.size
    if callable(long_side):
        long_side = long_side(max(full))
    if long_side is not None:
        image.draft(None, scaled_size(full, 3 * long_side // 2))  # a JPEG is decoded at 1/2, 1/4 or 1/8 of its size
    image.load()
    orientation = _orientation(image)  # after loading: a TIFF and a HEIF turn upright by themselves
    if orientation >= 5:
        full = full[::-1]
    drafted = image.size if orientation < 5 else image.size[::-1]
    size = scaled_size(full, long_side) if long_side is not None and max(full) > long_side else drafted
    upright = render(image, media_type, data, orientation, size)
    del image  # it may have hundreds of megabytes
    return DecodedPhoto(pixels_of(upright), full[::-1], media_type, turned=orientation > 1)


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise PhotoRefusedError("too_many_pixels", f"has {width}x{height} pixels, more than {max_pixels}", max_pixels)
    if max(size) > MAX_SIDE:
        raise PhotoRefusedError(
            "side_too_long", f"has {width}x{height} pixels, a side longer than {MAX_SIDE}", MAX_SIDE
        )


def _check_tiff(image: TiffImagePlugin.TiffImageFile, max_pixels: int) -> None:
    """Refuse a raw photo, of which only the thumbnail would be read, and tiles beyond the limit."""
    tags = image.tag_v2
    if ExifTags.Base.DNGVersion in tags or tags.get(ExifTags.Base.NewSubfileType, 0) & 1:
        raise PhotoRefusedError("unsupported_image", "is a camera raw file, which is not supported")
    width, height = tags.get(TiffImagePlugin.TILEWIDTH), tags.get(TiffImagePlugin.TILELENGTH)
    if isinstance(width, int) and isinstance(height, int):
        _check_size((width, height), max_pixels)


def _check_passes(image: JpegImagePlugin.JpegImageFile, data: bytes) -> None:
    """Refuse a progressive JPEG that goes over its pixels again and again, at a hundred bytes a time."""
    passes = data.count(b"\xff\xda")
    if "progressive" in image.info and passes * image.width * image.height > _PASSED_PIXELS:
        raise PhotoRefusedError("broken_image", f"has {passes} passes over {image.width}x{image.height} pixels")


def _orientation(image: ImageFile.ImageFile) -> int:
    """The EXIF orientation, 1 to 8."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # broken metadata breaks no photo
        return 1
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1
