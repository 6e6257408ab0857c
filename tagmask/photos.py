"""From the bytes that a client sent to the photo as it is displayed.

The type is told by the bytes, never by a name or header, and only that type's reader sees them. Pillow's own door,
`Image.open`, is not used: of a large photo it warns on stderr, or raises, before our own limit is looked at.
"""

import io
import re
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from pi_heif import HeifImageFile
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from tagmask.errors import RequestError, TooLarge, Unprocessable, UnsupportedType
from tagmask.segmentation import Pixels

MAX_SIDE = 65_535
"""Longest side of a photo, in pixels: what JPEG can hold. Readers spend memory on every row, however short."""

_HEADER_READS = 5_000  # the largest real headers take hundreds; some readers join the pieces in quadratic time
_PIXEL_READS = 200_000
_PASSED_PIXELS = 5_000_000_000  # pixels times passes of a progressive JPEG: some seconds, whatever its bytes

# Pillow warns of odd metadata in words that the file chooses, and Python would keep each of them for ever.
warnings.filterwarnings("ignore", module=r"PIL\.")


@dataclass(frozen=True)
class Photo:
    """A photo as it is displayed: orientation applied, alpha composed on white, 8 bits a channel.

    `pixels` (h, w, 3) uint8 RGB, longer side at most the one asked for; `size` (H, W) in pixels of the original as it
    is displayed; `media_type` of the bytes, such as "image/jpeg".
    """

    pixels: Pixels
    size: tuple[int, int]
    media_type: str


class _TooManyPiecesError(Exception):
    """The photo is cut into more pieces than any real one."""


class _Tape(io.BytesIO):
    """A photo's bytes, which can be read in so many pieces only; `ran_out` when a piece of the header was missing."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.ran_out = False
        self._reads_left = _HEADER_READS
        self._in_header = True

    def read(self, size: int | None = -1, /) -> bytes:
        self._reads_left -= 1
        if self._reads_left < 0:
            raise _TooManyPiecesError
        piece = super().read(size)
        if self._in_header and size is not None and len(piece) < size:
            self.ran_out = True
        return piece

    def leave_header(self) -> None:
        """From here on pixels are read: in more pieces, and some readers ask for more than there is."""
        self._reads_left = _PIXEL_READS
        self._in_header = False


class _FirstFrame(GifImagePlugin.GifImageFile):
    """A GIF of which no second frame is wanted: nothing is set aside for clearing the first one away."""

    @property
    def disposal_method(self) -> int:
        return 0

    @disposal_method.setter
    def disposal_method(self, method: int) -> None:
        pass


_READERS: dict[str, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    "image/jpeg": JpegImagePlugin.JpegImageFile,  # the first picture of an MPO is a JPEG
    "image/png": PngImagePlugin.PngImageFile,
    "image/webp": WebPImagePlugin.WebPImageFile,
    "image/avif": AvifImagePlugin.AvifImageFile,
    "image/heic": HeifImageFile,
    "image/heif": HeifImageFile,
    "image/gif": _FirstFrame,
    "image/bmp": BmpImagePlugin.BmpImageFile,
    "image/tiff": TiffImagePlugin.TiffImageFile,
}

MEDIA_TYPES = tuple(_READERS)
"""Types of photos that are read."""

_SIGNATURES = tuple(
    (re.compile(pattern, re.DOTALL), media_type)
    for pattern, media_type in (
        (rb"\xff\xd8\xff", "image/jpeg"),
        (rb"\x89PNG\r\n\x1a\n", "image/png"),
        (rb"RIFF....WEBP", "image/webp"),
        (rb".{4}ftyp(.{4})*avi[fs]", "image/avif"),
        (rb".{4}ftyp(.{4})*he[iv][cmsx]", "image/heic"),
        (rb".{4}ftyp(.{4})*m[is]f1", "image/heif"),
        (rb"GIF8[79]a", "image/gif"),
        (rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", "image/bmp"),
        (rb"II[*+]\0(?!....CR)|MM\0[*+]", "image/tiff"),
    )
)
_REFUSED = tuple(
    (re.compile(pattern, re.DOTALL), name)
    for pattern, name in (
        (rb"(\xef\xbb\xbf)?\s*(<.*)?<svg", "an SVG drawing"),
        (rb"%PDF", "a PDF"),
        (rb"%!PS|\xc5\xd0\xd3\xc6", "PostScript"),
        (rb"8BPS", "a Photoshop file"),
        (rb"gimp xcf", "a GIMP file"),
        (rb"\0\0\x01\0[^\0]\0", "an icon"),
        (rb"icns", "an icon"),
        (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "JPEG 2000"),
        (rb"\0\0\0\x0cJXL |\xff\x0a", "JPEG XL"),
        (rb"II...\0..CR|IIU\0|IIR[OS]|MMOR|FUJIFILMCCD-RAW|.{4}ftypcrx ", "a camera's raw file"),
        (rb".{4}ftyp.{4}|\x1aE\xdf\xa3|RIFF....AVI ", "a video"),
        (rb"\xd7\xcd\xc6\x9a", "a Windows metafile"),
        (rb"P[1-7f]\s", "Netpbm"),
        (rb"v/1\x01", "OpenEXR"),
        (rb"DDS ", "a DirectDraw surface"),
        (rb"qoif", "QOI"),
    )
)
_URL = re.compile(rb"(\xef\xbb\xbf)?\s*['\"]?([a-z][a-z0-9+.-]{1,20}://|//|www\.|data:|file:|blob:)", re.IGNORECASE)
_CUT_OFF = re.compile(r"truncat|end[ -]of[ -](file|data)|unexpected end|incomplete|premature", re.IGNORECASE)

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # by EXIF orientation


def decode(data: bytes, *, long_side: int, max_pixels: int, field: str = "image") -> Photo:
    """The photo in `data`, scaled down as in training so that its longer side is at most `long_side` pixels.

    Of an animation it is the first frame. Any number of threads may call this at once. Whatever the bytes, nothing but
    these is raised, naming `field`: TooLarge for more than `max_pixels`, told from the header before anything is
    decoded, or for a side above MAX_SIDE; UnsupportedType for a known type that is not read; else Unprocessable with
    the code empty_image, url_not_fetched, not_an_image, truncated_image or broken_image.
    """
    media_type = _recognise(data, field)
    tape = _Tape(data)
    try:
        return _read(tape, media_type, long_side, max_pixels, field)
    except RequestError:
        raise
    except Image.DecompressionBombError as fault:  # Pillow's own limit, met before the size is known to us
        message = f"{field} ({media_type}) has more pixels than {max_pixels}; scale it down"
        raise TooLarge(message, code="too_many_pixels", field=field, limit=max_pixels) from fault
    except _TooManyPiecesError as fault:
        raise _broken(f"{field} ({media_type}) is in more pieces than are read", field) from fault
    except Exception as fault:  # a decoder raises what it likes: OSError, SyntaxError, struct.error, MemoryError, …
        if tape.ran_out or _promised(data) > len(data) or _CUT_OFF.search(str(fault)):
            message = f"{field} ({media_type}) breaks off after {len(data)} bytes; send the whole file"
            raise Unprocessable(message, code="truncated_image", field=field) from fault
        raise _broken(f"{field} ({media_type}) cannot be decoded", field) from fault


def scaled_size(size: tuple[int, int], long_side: int) -> tuple[int, int]:
    """The (a, b) size in pixels whose longer side is `long_side`, in the proportions of `size`, no side below 1."""
    scale = long_side / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _recognise(data: bytes, field: str) -> str:
    head = data[:1024]
    brands = data[: min(int.from_bytes(data[:4], "big"), 256)]  # those of an ISO media file are in its first box
    for signature, media_type in _SIGNATURES:
        if signature.match(brands if data[4:8] == b"ftyp" else head):
            return media_type
    if not data:
        raise Unprocessable(f"{field} is empty; send the bytes of a photo", code="empty_image", field=field)
    if _URL.match(head):
        raise Unprocessable(
            f"{field} is a URL, and no URL is ever fetched; send the photo's bytes", code="url_not_fetched", field=field
        )
    accepted = ", ".join(MEDIA_TYPES)
    for signature, name in _REFUSED:
        if signature.match(head):
            raise UnsupportedType(
                f"{field} is {name}, which is not read; send one of {accepted}", code="unsupported_image", field=field
            )
    raise Unprocessable(
        f"{field} is no image of a known type; send the bytes of a photo, not text or base64, as one of {accepted}",
        code="not_an_image",
        field=field,
    )


def _read(tape: _Tape, media_type: str, long_side: int, max_pixels: int, field: str) -> Photo:
    data = tape.getvalue()
    if media_type == "image/webp":  # its decoder sets the canvas aside when it is opened
        _check_size(_webp_size(data), max_pixels, field)
    image = _READERS[media_type](tape)
    _check_size(image.size, max_pixels, field)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        _check_tiff(image, max_pixels, field)
    elif isinstance(image, JpegImagePlugin.JpegImageFile):
        _check_passes(image, data, field)
    tape.leave_header()
    full = image.size
    image.draft(None, scaled_size(full, 2 * long_side))  # a JPEG is decoded at 1/2, 1/4 or 1/8 of its size
    image.load()
    orientation = _orientation(image)  # after loading: a TIFF and a HEIF turn upright by themselves
    upright = _on_white(image, data)
    del image  # hundreds of megabytes, maybe
    if orientation in _TURNS:
        upright = upright.transpose(_TURNS[orientation])
        full = full if orientation < 5 else full[::-1]
    if max(full) > long_side:
        upright = upright.resize(scaled_size(full, long_side), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return Photo(np.array(upright), full[::-1], media_type)


def _check_size(size: tuple[int, int], max_pixels: int, field: str) -> None:
    width, height = size
    if width * height > max_pixels:
        raise TooLarge(
            f"{field} has {width}x{height} pixels, more than {max_pixels}; scale it down",
            code="too_many_pixels",
            field=field,
            limit=max_pixels,
        )
    if max(size) > MAX_SIDE:
        raise TooLarge(
            f"{field} has {width}x{height} pixels, a side longer than {MAX_SIDE}; crop it or scale it down",
            code="side_too_long",
            field=field,
            limit=MAX_SIDE,
        )


def _check_tiff(image: TiffImagePlugin.TiffImageFile, max_pixels: int, field: str) -> None:
    """Refuse a raw photo, of which only the thumbnail would be read, and tiles beyond the limit."""
    tags = image.tag_v2
    if ExifTags.Base.DNGVersion in tags or tags.get(ExifTags.Base.NewSubfileType, 0) & 1:
        raise UnsupportedType(
            f"{field} is a camera's raw file, which is not read; send the photo as JPEG",
            code="unsupported_image",
            field=field,
        )
    width, height = tags.get(TiffImagePlugin.TILEWIDTH), tags.get(TiffImagePlugin.TILELENGTH)
    if isinstance(width, int) and isinstance(height, int):
        _check_size((width, height), max_pixels, field)


def _check_passes(image: JpegImagePlugin.JpegImageFile, data: bytes, field: str) -> None:
    """Refuse a progressive JPEG that goes over its pixels again and again, at a hundred bytes a time."""
    passes = data.count(b"\xff\xda")
    if "progressive" in image.info and passes * image.width * image.height > _PASSED_PIXELS:
        raise _broken(f"{field} (image/jpeg) has {passes} passes over {image.width}x{image.height} pixels", field)


def _orientation(image: ImageFile.ImageFile) -> int:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # broken metadata breaks no photo
        return 1
    return orientation if isinstance(orientation, int) else 1


def _on_white(image: Image.Image, data: bytes) -> Image.Image:
    """`image` as 8-bit RGB on white. Pasting rounds as `Image.alpha_composite` does, in half of its memory."""
    if image.mode.startswith("I;16"):
        values = np.asarray(image)
        grey = (values // 257).astype(np.uint8)  # 65535 / 255
        grey[values == image.info.get("transparency", -1)] = 255
        return Image.fromarray(grey).convert("RGB")
    if image.mode in ("I", "F"):
        numbers = np.asarray(image, dtype=np.float32)  # their range is not written down
        scale = 255 / 65535 if numbers.max(initial=0) > 255 else 1
        return Image.fromarray((numbers * scale).clip(0, 255).astype(np.uint8)).convert("RGB")
    if "transparency" in image.info:
        if image.format == "PNG":
            image.info["transparency"] = _key(image, depth=data[24])
        image = image.convert("RGBA")
    elif image.mode in ("PA", "RGBa"):
        image = image.convert("RGBA")
    if image.mode in ("RGBA", "LA"):
        canvas = Image.new("RGB", image.size, "white")
        canvas.paste(image, mask=image)
        return canvas
    return image if image.mode == "RGB" else image.convert("RGB")


def _key(image: Image.Image, depth: int) -> int | bytes | tuple[int, ...]:
    """A PNG's transparent colour in the 8-bit values that it was decoded to; Pillow leaves it at `depth` bits."""
    key = image.info["transparency"]
    if image.mode == "L":
        return key * 255 // (2**depth - 1)
    if image.mode == "RGB" and depth == 16:
        return tuple(value >> 8 for value in key)
    return key


def _webp_size(data: bytes) -> tuple[int, int]:
    """(W, H) from the header. Raises struct.error when it is cut off."""
    if data[12:16] == b"VP8X":
        width, width_high, height, height_high = struct.unpack_from("<HBHB", data, 24)
        return (width | width_high << 16) + 1, (height | height_high << 16) + 1
    if data[12:16] == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def _broken(what: str, field: str) -> Unprocessable:
    return Unprocessable(f"{what}; save the photo anew and send that", code="broken_image", field=field)


def _promised(data: bytes) -> int:
    """Bytes that a file says it has; 0 where its type does not say."""
    if data.startswith(b"RIFF"):
        return 8 + int.from_bytes(data[4:8], "little")
    if data.startswith(b"BM"):
        return int.from_bytes(data[2:6], "little")
    at = 0
    while data[4:8] == b"ftyp" and at < len(data):  # ISO media: a row of boxes, each with its size in front
        size, header = int.from_bytes(data[at : at + 4], "big"), 8
        if size == 1:
            size, header = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        if size == 0:  # to the end of the file, wherever that is
            return 0
        at += max(size, header)
    return at
