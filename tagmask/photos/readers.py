"""Pillow's readers by media type, with limits on what a file can make them do.

`Image.open` is not used: of a large photo it warns on stderr, or raises, before our own limit is checked.
"""

import ctypes
import io
import re
import struct
import warnings
from collections.abc import Callable
from contextlib import suppress

import numpy as np
from pi_heif import HeifImageFile
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
    _imaging,
)

_HEADER_READS = 5_000  # the largest real headers take hundreds; some readers join the pieces in quadratic time
_PIXEL_READS = 200_000
_TIFF_PIECES = 200_000  # strips or tiles: 50 megapixels in tiles of 16x16

# Pillow's warnings about odd metadata quote the file, and Python would keep each of them for ever.
warnings.filterwarnings("ignore", module=r"PIL\.")

# libtiff, which is linked to Pillow's extension, writes to standard error for each odd strip; faults are raised anyway.
with suppress(OSError, AttributeError):
    _pillow = ctypes.CDLL(_imaging.__file__)
    for _set_handler in (_pillow.TIFFSetErrorHandler, _pillow.TIFFSetWarningHandler):
        _set_handler.restype = ctypes.c_void_p
        _set_handler(None)


class TooManyReadsError(Exception):
    """The photo is cut into more pieces than any real one."""


class Tape(io.BytesIO):
    """A photo's bytes, which can be read in a limited number of pieces; `ran_out` when the header is incomplete."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.ran_out = False
        self._reads_left = _HEADER_READS
        self._in_header = True

    def read(self, size: int | None = -1, /) -> bytes:
        self._reads_left -= 1
        if self._reads_left < 0:
            raise TooManyReadsError
        piece = super().read(size)
        if self._in_header and size is not None and len(piece) < size:
            self.ran_out = True
        return piece

    def leave_header(self) -> None:
        """From now on pixels are read: in more pieces, and some readers ask for more than is left."""
        self._reads_left = _PIXEL_READS
        self._in_header = False


class _Png(PngImagePlugin.PngImageFile):
    """A PNG whose profile or texts, if Pillow refuses to decompress them for their size, are left out."""

    def _open(self) -> None:
        try:
            super()._open()
        except ValueError:
            assert isinstance(self.fp, Tape)
            data = _without_metadata(self.fp.getvalue())
            self.fp.seek(0)
            self.fp.truncate()
            self.fp.write(data)
            self.fp.seek(0)
            super()._open()


class _FirstFrame(GifImagePlugin.GifImageFile):
    """A GIF of which only the first frame is read: no memory is reserved for clearing it."""

    @property
    def disposal_method(self) -> int:
        return 0

    @disposal_method.setter
    def disposal_method(self, method: int) -> None:
        pass


class _WebP(WebPImagePlugin.WebPImageFile):
    """A WebP of which only the first frame is read: the decoder, which holds two frames, is dropped when it has it."""

    def _get_next(self) -> tuple[bytes, int, int]:
        frame = super()._get_next()
        del self._decoder
        return frame


class _Tiff(TiffImagePlugin.TiffImageFile):
    """A TIFF of a limited number of strips or tiles; Pillow makes several objects for each when it opens the file."""

    def _setup(self) -> None:
        for tag in (TiffImagePlugin.STRIPOFFSETS, TiffImagePlugin.TILEOFFSETS):
            if len(self.tag_v2._tagdata.get(tag, b"")) > _TIFF_PIECES * 4:  # not yet numbers, of 4 bytes
                raise TooManyReadsError
        super()._setup()


class _Netpbm(PpmImagePlugin.PpmImageFile):
    """Netpbm with a decoder that does not hold the interpreter for a second per megabyte, as Pillow's does."""

    def _open(self) -> None:
        super()._open()
        tile = self.tile[0]
        if tile.codec_name in ("ppm", "ppm_plain") and self.mode != "1":
            assert isinstance(tile.args, tuple)
            maxval = tile.args[1]
            self.tile = [tile._replace(codec_name=_NetpbmDecoder.NAME, args=(maxval, tile.codec_name == "ppm_plain"))]


class _NetpbmDecoder(ImageFile.PyDecoder):
    """Samples of any maximum, in binary or as text, to 8 bits; in mode "I", which Pillow gives deep grey, to 16."""

    NAME = "tagmask_netpbm"
    _pulls_fd = True

    def decode(self, buffer: object) -> tuple[int, int]:
        assert self.fd is not None
        maxval, plain = self.args
        count = self.state.xsize * self.state.ysize * Image.getmodebands(self.mode)
        data = self.fd.read()
        if plain:
            samples = np.fromstring(re.sub(rb"#[^\r\n]*", b"", data), dtype=np.uint32, sep=" ")[:count]
        else:
            depth = np.dtype(np.uint8 if maxval < 256 else ">u2")
            samples = np.frombuffer(data, dtype=depth, count=min(count, len(data) // depth.itemsize))
        if samples.size < count:
            raise ValueError("truncated")
        if samples.max() > maxval:
            raise ValueError(f"a sample is above {maxval}")
        top, dtype, rawmode = (65535, "<i4", "I;32") if self.mode == "I" else (255, "u1", self.mode)
        table = np.rint(np.arange(maxval + 1) / maxval * top).astype(dtype)
        self.set_as_raw(table[samples].tobytes(), rawmode)
        return -1, 0


Image.register_decoder(_NetpbmDecoder.NAME, _NetpbmDecoder)

READERS: dict[str, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    "image/jpeg": JpegImagePlugin.JpegImageFile,  # the first picture of an MPO is a JPEG
    "image/png": _Png,
    "image/webp": _WebP,
    "image/avif": AvifImagePlugin.AvifImageFile,
    "image/heic": HeifImageFile,
    "image/heif": HeifImageFile,
    "image/gif": _FirstFrame,
    "image/bmp": BmpImagePlugin.BmpImageFile,
    "image/tiff": _Tiff,
    "image/x-portable-anymap": _Netpbm,
}


def _without_metadata(png: bytes) -> bytes:
    """A PNG without the profile and the compressed texts before its pixels. Raises TooManyReadsError."""
    view, start = memoryview(png), 8
    kept = [view[:start]]
    for _ in range(_HEADER_READS):
        end = start + 12 + int.from_bytes(png[start : start + 4], "big")  # length, type, data, checksum
        kind = png[start + 4 : start + 8]
        if kind in (b"IDAT", b""):
            return b"".join([*kept, view[start:]])
        if kind not in (b"iCCP", b"zTXt", b"iTXt"):
            kept.append(view[start:end])
        start = end
    raise TooManyReadsError


def webp_size(data: bytes) -> tuple[int, int]:
    """(W, H) from the header of a WebP. Raises struct.error when it is cut off."""
    if data[12:16] == b"VP8X":
        width, width_high, height, height_high = struct.unpack_from("<HBHB", data, 24)
        return (width | width_high << 16) + 1, (height | height_high << 16) + 1
    if data[12:16] == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def stated_length(data: bytes) -> int:
    """Length in bytes that a file states; 0 where its type states none."""
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
