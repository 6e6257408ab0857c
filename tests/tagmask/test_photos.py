"""`tagmask.photos`: what a client sent, as it is displayed."""

import base64
import io
import re
import struct
import subprocess
import sys
import tracemalloc
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from tagmask.errors import RequestError, TooLarge, Unprocessable, UnsupportedType
from tagmask.photos import MAX_SIDE, MEDIA_TYPES, DecodedPhoto, decode, rendering, scaled_size

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")  # as the module has it outside of pytest
PHOTOS = Path(__file__).parents[3] / "shared" / "data" / "voc-animals"
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def _unpacked(text: str) -> bytes:
    return zlib.decompress(base64.b85decode(text))


# 32x16 pixels, red and green above blue and white, stored so that it is to be turned: by `irot`, and once more in EXIF.
TURNED_HEIC = _unpacked(
    "c-muNV30{GsVvAy&8%Pmg51nBLl8SRGck>UfpKeYYDppk1Sn>t<P<^K3<a6VB@Af5Br_*J8N_gLU|?ck1hE)zLTDiP0~7-"
    "SrmJuf6(F|A%*;yz^FXqqKu#)H8Bk3|S+XGmk{}~UiEBkBSUF!oW=SpsR3*cg%z~l<AblmXAUPjMmjm@WGqP|1ne!|_isU{p{Q3Xm2Ll5?a{"
    "^F@xC0{(<NyC41<YU-%s?f(m>d#;a#~J|jHnV5SOgR{-"
    "3`4QbBD!5LI5bnH~}Of(2xXF&f&s%uvo%C0w}~Fl384k3iX@=6l)~sB!Zl#0ClPWi2nco{{xVhf%FBa*98hPD>6YEnK?K>?&i!a$}a)h&LEL"
    "lkPC|fMg~UKMkbc#Rv=p{vnVwUD$bXjQk)D9bD$NB8o4Qnpvd{5!ML9DMClQo1Ijbc<$qKEe>|p@dG3|wAC<Ce?f<OWd3>(AdU4+Mxxe)D?`"
    "PZhM+SG~eAsa7g6@}pJ2IMn&EbC#bMxZtl!V8ERx9Iq6`LNMa&T8xRy*5xOE^B5XGh3{e)&uHdbWE^aLY9N5uSPE`>8x5>5pMwyXwAdyM1oY"
    "%ykzhn=46_N{19$*tzN+zI1!7{Vx?0rvumjDWpHVcfUsT$g;h&W~Tb=TU2vD+>Y_2V@3I*?Ey8srY+CrMBXtJ%of<L_g??wJsn1iTkKYi2W!"
    ";T^96hlUs;yB%DX~IT)I?S;-1><iN$YSUhn%>-e0X%z5Vaiq<IU>8-RXigCrDRUj{88kAs1cQ3w>5!0=&%1Q`IitJ6#"
)
CLEAR_HEIC = _unpacked(
    "c-"
    "muNV30{GsVvAy&8%Pmg51nBLl8SRGck>UfhjjPwIq=N0u(b+a*CjAhJwuG5(YG2l9`jA3}U!AFfcJNf>=xwAv6#K1I0ihPv9aNKx~njnU@CU"
    "fn-I2oK&zfpqh-bWJ3lNK_-MCUqNO`E(260<C@HZq5>e@l39?P4-_j0DsyIJ;Q%t{S%4JDePH<W|Hlso27cxQpbl{dMjpoh|3M0v!77-"
    "6N_H_hBm(8MoERBVB_^;4C~UeLdO79}i;08)P>gW`NJ5|?38<XIh4Emqgn<N5h(S0xKc^@!Ii~_B&db2o02C6*EG|fe`qu%9HIj1@fv#l`fV"
    "dt)|NsC00?3On8YEtjS&<3S$jre3@=77XSMz_seDw#1uRto0e5D5W6-?ql6N^~%s$JQ$nLvCa5Wyq>@(~-zM+ZA0fedi~Bgjtm#L^095U;c-"
    "&nmYdHQg#BwJh1n$iUFl3MiGCVg-"
    "&Fh0KCnSdsyz0@g+*X4V!4Ce}7)_Kp^ym{ev_Y8q6Y52!B(oK`^L(43o+2uf7`8jR~XPh@pTDbGBY|4se>@t9WTilbNd?$(!IKHvK1n~x#wA"
    "5wi6PfFj}YwY~Ttnc9;$zT6|tzImz?;6kf`^7(nZSs>+b2VHPYLf*vu3RhuG*U%_ah>plIi0qm3o1^qum0Qd_;88U>jfcR@hwv#Rp)(mh)$l"
    "p3;^K-vi<"
)


def _read(data: bytes, long_side: int = 1000, max_pixels: int = 1_000_000) -> DecodedPhoto:
    return decode(data, long_side=long_side, max_pixels=max_pixels)


def _refusal(data: bytes, max_pixels: int = 1_000_000) -> RequestError:
    with pytest.raises(RequestError) as caught:
        _read(data, max_pixels=max_pixels)
    return caught.value


def _outcome(data: bytes, long_side: int = 1000, max_pixels: int = 1_000_000) -> DecodedPhoto | RequestError:
    try:
        return _read(data, long_side, max_pixels)
    except RequestError as refusal:
        return refusal


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _quarters(width: int = 32, height: int = 16) -> Image.Image:
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    pixels[: height // 2, : width // 2], pixels[: height // 2, width // 2 :] = RED, GREEN
    pixels[height // 2 :, : width // 2], pixels[height // 2 :, width // 2 :] = BLUE, WHITE
    return Image.fromarray(pixels)


def _noise(width: int, height: int) -> Image.Image:
    """Smooth colours with some noise, so that every pixel and every rounding counts."""
    y, x = np.mgrid[:height, :width]
    planes = np.stack([255 * x / width, 255 * y / height, 127 + 127 * np.sin(x / 7) * np.cos(y / 5)], axis=-1)
    return Image.fromarray((planes + np.random.default_rng(5).normal(0, 8, planes.shape)).clip(0, 255).astype(np.uint8))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _png(size: tuple[int, int], depth: int, colour: int, rows: list[bytes], *extra: bytes) -> bytes:
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0))
    pixels = _chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + pixels + _chunk(b"IEND", b"")


def _webp(width: int, height: int) -> bytes:
    """A canvas of that size with one frame of 8x8 pixels in it."""
    still = _saved(_noise(8, 8), "WEBP", lossless=True)[12:]
    frame = bytes(6) + struct.pack("<HBHB", 7, 0, 7, 0) + b"\1\0\0\0" + still
    canvas = b"\2\0\0\0" + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    parts = ((b"VP8X", canvas), (b"ANIM", bytes(6)), (b"ANMF", frame))
    body = b"WEBP" + b"".join(name + struct.pack("<I", len(part)) + part for name, part in parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _gif(canvas: tuple[int, int], frame: tuple[int, int]) -> bytes:
    """A frame that is to be cleared away afterwards, for which memory would be set aside."""
    head = b"GIF89a" + struct.pack("<HHBBB", *canvas, 0x80, 1, 0) + bytes(3) + b"\xff\xff\xff"
    return head + b"!\xf9\x04\x08\0\0\0\0" + b"," + struct.pack("<HHHHB", 0, 0, *frame, 0) + b"\x02\x02D\x01\0;"


def _tiff(size: tuple[int, int], tile: tuple[int, int] | None = None, **more: int) -> bytes:
    """A deflated grey TIFF; `more` are LONG tags such as t254=1."""
    tags = {256: size[0], 257: size[1], 258: 8, 259: 8, 262: 1, 277: 1}
    tags |= {322: tile[0], 323: tile[1], 324: 8, 325: 40} if tile else {273: 8, 278: size[1], 279: 40}
    tags |= {int(name[1:]): value for name, value in more.items()}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, tags[tag]) for tag in sorted(tags))
    pixels = zlib.compress(bytes(size[0] * min(size[1], 100))).ljust(40, b"\0")[:40]
    return b"II*\0" + struct.pack("<I", 48) + pixels + struct.pack("<H", len(tags)) + entries + bytes(4)


def _jpeg(width: int, height: int) -> bytes:
    """A small JPEG that says in its header to be that large."""
    data = bytearray(_saved(_quarters(), "JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def _bmp(width: int, height: int) -> bytes:
    data = bytearray(_saved(_quarters(), "BMP"))
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


BOMBS = {
    "PNG": _png((60_000, 60_000), 8, 6, [bytes(100)]),
    "JPEG": _jpeg(65_000, 65_000),
    "BMP": _bmp(60_000, 60_000),
    "WebP": _webp(16_383, 16_383),
    "WebP below Pillow's limit": _webp(12_000, 12_000),
    "GIF": _gif((65_535, 65_535), (1, 1)),
    "GIF frame": _gif((13_000, 13_000), (13_000, 13_000)),
    "GIF frame beyond its canvas": _gif((10, 10), (13_000, 13_000)),
    "GIF frame beyond Pillow's limit": _gif((10, 10), (65_535, 65_535)),
    "TIFF": _tiff((60_000, 60_000)),
    "TIFF tile": _tiff((64, 64), (13_008, 13_008)),
}

PALETTE = _quarters().quantize(8)
FRAMES = {"save_all": True, "append_images": [Image.new("RGB", (32, 16), "black")]}
FILES = {
    "JPEG": ("image/jpeg", _saved(_quarters(), "JPEG", subsampling=0, quality=95)),
    "progressive JPEG": ("image/jpeg", _saved(_quarters(), "JPEG", subsampling=0, quality=95, progressive=True)),
    "MPO": ("image/jpeg", _saved(_quarters(), "MPO", subsampling=0, quality=95, **FRAMES)),
    "CMYK JPEG": ("image/jpeg", _saved(_quarters().convert("CMYK"), "JPEG", quality=95)),
    "PNG": ("image/png", _saved(_quarters(), "PNG")),
    "palette PNG": ("image/png", _saved(PALETTE, "PNG")),
    "animated PNG": ("image/png", _saved(_quarters(), "PNG", **FRAMES)),
    "WebP": ("image/webp", _saved(_quarters(), "WEBP", quality=95)),
    "lossless WebP": ("image/webp", _saved(_quarters(), "WEBP", lossless=True)),
    "animated WebP": ("image/webp", _saved(_quarters(), "WEBP", lossless=True, **FRAMES)),
    "AVIF": ("image/avif", _saved(_quarters(), "AVIF", quality=95, subsampling="4:4:4")),
    "animated AVIF": ("image/avif", _saved(_quarters(), "AVIF", quality=95, subsampling="4:4:4", **FRAMES)),
    "GIF": ("image/gif", _saved(PALETTE, "GIF")),
    "animated GIF": ("image/gif", _saved(PALETTE, "GIF", **FRAMES)),
    "BMP": ("image/bmp", _saved(_quarters(), "BMP")),
    "palette BMP": ("image/bmp", _saved(PALETTE, "BMP")),
    "TIFF": ("image/tiff", _saved(_quarters(), "TIFF")),
    "LZW TIFF": ("image/tiff", _saved(_quarters(), "TIFF", compression="tiff_lzw")),
    "PPM": ("image/x-portable-anymap", _saved(_quarters(), "PPM")),
    "deep PPM": (
        "image/x-portable-anymap",
        b"P6 32 16 65535\n" + (np.asarray(_quarters()).astype(">u2") * 257).tobytes(),
    ),
    "plain PPM": (
        "image/x-portable-anymap",
        b"P3\n# four\n32 16\n1\n"
        + b" ".join(b"%d" % value for value in (np.asarray(_quarters()) // 255).reshape(-1).tolist())
        + b"\n",
    ),
    "CMYK TIFF": ("image/tiff", _saved(_quarters().convert("CMYK"), "TIFF")),
}  # name: (media type, the four quarters)


class TestPixels:
    @pytest.mark.parametrize("name", FILES)
    def test_every_format(self, name: str) -> None:
        media_type, data = FILES[name]
        photo = _read(data)
        assert (photo.media_type, photo.size) == (media_type, (16, 32))
        assert media_type in MEDIA_TYPES
        lossy = name in ("JPEG", "progressive JPEG", "MPO", "CMYK JPEG", "WebP", "AVIF", "animated AVIF")
        corners = photo.pixels[[1, 1, -2, -2], [1, -2, 1, -2]]
        np.testing.assert_allclose(corners.astype(int), [RED, GREEN, BLUE, WHITE], atol=12 if lossy else 0)
        if not lossy:
            np.testing.assert_array_equal(photo.pixels, np.asarray(_quarters()))

    def test_heic_is_turned_once(self) -> None:
        photo = _read(TURNED_HEIC)
        assert (photo.media_type, photo.size) == ("image/heic", (32, 16))
        corners = photo.pixels[[2, 2, -3, -3], [2, -3, 2, -3]]
        np.testing.assert_allclose(corners.astype(int), [BLUE, RED, WHITE, GREEN], atol=4)

    def test_heic_with_alpha(self) -> None:
        corners = _read(CLEAR_HEIC).pixels[[2, 2, -3, -3], [2, -3, 2, -3]]
        np.testing.assert_allclose(corners.astype(int), [RED, WHITE, BLUE, WHITE], atol=4)

    @pytest.mark.parametrize(
        ("depth", "row", "transparent", "expected"),
        [
            (1, b"\x40", None, [0, 255]),
            (1, b"\x40", 0, [255, 255]),
            (2, b"\x10", None, [0, 85]),
            (2, b"\x10", 1, [0, 255]),
            (4, b"\x3c", None, [51, 204]),
            (4, b"\x3c", 3, [255, 204]),
            (8, b"\x07\xc8", None, [7, 200]),
            (8, b"\x07\xc8", 7, [255, 200]),
            (16, struct.pack(">2H", 257 * 7, 65_535), None, [7, 255]),
            (16, struct.pack(">2H", 200, 514), None, [0, 2]),  # dark, and still of 16 bits
            (16, struct.pack(">2H", 257 * 7, 257 * 8), 257 * 7, [255, 8]),
        ],
    )
    def test_grey_png(self, depth: int, row: bytes, transparent: int | None, expected: list[int]) -> None:
        extra = [] if transparent is None else [_chunk(b"tRNS", struct.pack(">H", transparent))]
        pixels = _read(_png((2, 1), depth, 0, [row], *extra)).pixels
        np.testing.assert_array_equal(pixels, np.repeat([expected], 3).reshape(1, 2, 3))

    @pytest.mark.parametrize("depth", [8, 16])
    def test_colour_png_with_a_transparent_colour(self, depth: int) -> None:
        samples = [value << 8 | 51 if depth == 16 else value for value in (10, 20, 30, 40, 50, 60)]
        code = ">6H" if depth == 16 else ">6B"
        key = _chunk(b"tRNS", struct.pack(">3H", *samples[:3]))
        pixels = _read(_png((2, 1), depth, 2, [struct.pack(code, *samples)], key)).pixels
        assert pixels.tolist() == [[[255, 255, 255], [40, 50, 60]]]

    @pytest.mark.parametrize("depth", [8, 16])
    def test_grey_and_alpha_png(self, depth: int) -> None:
        samples = [value * (257 if depth == 16 else 1) for value in (100, 255, 100, 0, 0, 51)]
        pixels = _read(_png((3, 1), depth, 4, [struct.pack(">6H" if depth == 16 else ">6B", *samples)])).pixels
        assert pixels[0, :, 0].tolist() == [100, 255, 204]

    def test_palette_png_with_alpha(self) -> None:
        colours, alphas = _chunk(b"PLTE", bytes([*RED, *BLUE, *GREEN])), _chunk(b"tRNS", bytes([255, 51]))
        pixels = _read(_png((3, 1), 8, 3, [b"\0\1\2"], colours, alphas)).pixels
        assert pixels[0].tolist() == [list(RED), [204, 204, 255], list(GREEN)]

    @pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})])
    def test_alpha_on_white(self, kind: str, options: dict[str, Any]) -> None:
        image = Image.new("RGBA", (4, 4), (0, 100, 200, 255))
        image.paste((0, 100, 200, 0), (2, 0, 4, 2))
        image.paste((0, 100, 200, 128), (0, 2, 2, 4))
        pixels = _read(_saved(image, kind, exact=True, **options)).pixels
        assert pixels[[0, 0, 3], [0, 3, 0]].tolist() == [[0, 100, 200], [255, 255, 255], [127, 177, 227]]

    def test_transparent_gif(self) -> None:
        pixels = _read(_saved(PALETTE, "GIF", transparency=PALETTE.getpixel((0, 0)))).pixels
        assert pixels[[0, 0, -1], [0, -1, 0]].tolist() == [list(WHITE), list(GREEN), list(BLUE)]

    @pytest.mark.parametrize("kind", ["PNG", "TIFF"])
    def test_sixteen_bits(self, kind: str) -> None:
        values = np.array([[0, 256, 257, 32_896, 65_535]], dtype=np.uint16)
        assert _read(_saved(Image.fromarray(values), kind)).pixels[0, :, 1].tolist() == [0, 0, 1, 128, 255]

    @pytest.mark.parametrize(
        ("data", "expected"),
        [
            (b"P1 3 2\n1 0 1\n#c\n010", [0, 255, 0, 255, 0, 255]),
            (b"P2 3 1 #c\n100\n0 50 100", [0, 128, 255]),
            (b"P2 3 1 1023 0 512 1023", [0, 127, 255]),
            (b"P4 3 2\n\xa0\x40", [0, 255, 0, 255, 0, 255]),
            (b"P5 3 1 255\n\0\x07\xff", [0, 7, 255]),
            (b"P5 3 1 100\n\0\x32\x64", [0, 128, 255]),
            (b"P5 3 1 65535\n\0\xff\1\1\xff\xff", [0, 1, 255]),
            (b"P5 3 1 1023\n\0\0\2\0\3\xff", [0, 127, 255]),
        ],
    )
    def test_grey_netpbm(self, data: bytes, expected: list[int]) -> None:
        photo = _read(data)
        assert photo.media_type == "image/x-portable-anymap"
        assert photo.pixels[..., 0].ravel().tolist() == expected
        assert (photo.pixels == photo.pixels[..., :1]).all()

    @pytest.mark.parametrize("maxval", [1, 7, 100, 255, 256, 1000, 65535])
    @pytest.mark.parametrize("kind", [2, 3, 5, 6])
    def test_netpbm_as_pillow_reads_it(self, kind: int, maxval: int) -> None:
        samples = np.random.default_rng(maxval).integers(0, maxval + 1, 4 * 5 * (3 if kind % 3 == 0 else 1))
        head = b"P%d\n5 4\n%d\n" % (kind, maxval)
        plain = b" ".join(b"%d" % value for value in samples.tolist())
        data = head + (plain if kind < 4 else samples.astype(">u2" if maxval > 255 else "u1").tobytes())
        with Image.open(io.BytesIO(data)) as image:
            expected = np.asarray(image) // 257 if image.mode.startswith("I") else np.asarray(image)
        np.testing.assert_array_equal(
            _read(data).pixels, np.asarray(Image.fromarray(expected.astype(np.uint8)).convert("RGB"))
        )

    @pytest.mark.parametrize("samples", [b"1 2 8", b"1 x 3", b"-1 2 3", b"1 2 99999999999999999999"])
    def test_netpbm_with_samples_that_are_none(self, samples: bytes) -> None:
        assert _refusal(b"P2 3 1 7\n" + samples).code == "broken_image"

    @pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
    def test_cmyk(self, kind: str) -> None:
        for ink, colour in (((0, 255, 255, 0), RED), ((0, 0, 0, 0), WHITE), ((0, 0, 0, 255), (0, 0, 0))):
            pixels = _read(_saved(Image.new("CMYK", (16, 16), ink), kind)).pixels
            np.testing.assert_allclose(pixels.astype(int), np.broadcast_to(colour, pixels.shape), atol=2)


STORED = {  # how an upright photo is stored under each EXIF orientation
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


class TestOrientation:
    def stored(self, upright: Image.Image, orientation: int, kind: str, **options: Any) -> bytes:
        exif = Image.Exif()
        exif[0x0112] = orientation
        turn = STORED[orientation]
        return _saved(upright if turn is None else upright.transpose(turn), kind, exif=exif, **options)

    @pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})])
    @pytest.mark.parametrize("orientation", STORED)
    def test_pixels_do_not_depend_on_it(self, kind: str, options: dict[str, Any], orientation: int) -> None:
        upright = _noise(151, 83)
        for long_side in (37, 200):
            expected = _read(_saved(upright, "PNG"), long_side)
            photo = _read(self.stored(upright, orientation, kind, **options), long_side)
            np.testing.assert_array_equal(photo.pixels, expected.pixels)
            assert photo.size == expected.size == (83, 151)

    @pytest.mark.parametrize("kind", ["JPEG", "AVIF"])
    @pytest.mark.parametrize("orientation", STORED)
    def test_lossy(self, kind: str, orientation: int) -> None:
        photo = _read(self.stored(_quarters(320, 160), orientation, kind, quality=95), long_side=32)
        assert photo.size == (160, 320)
        corners = photo.pixels[[1, 1, -2, -2], [1, -2, 1, -2]]
        np.testing.assert_allclose(corners.astype(int), [RED, GREEN, BLUE, WHITE], atol=12)

    def test_broken_exif_breaks_no_photo(self) -> None:
        data = _saved(_quarters(), "PNG", exif=b"Exif\0\0neither MM nor II")
        np.testing.assert_array_equal(_read(data).pixels, np.asarray(_quarters()))


class TestScaling:
    @staticmethod
    def decoded_in_full(data: bytes, long_side: int) -> np.ndarray:
        """By Pillow's own means: decoded at full size, composed on white, then scaled."""
        with Image.open(io.BytesIO(data)) as image:
            if image.mode == "I;16":
                image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
            rgba = ImageOps.exif_transpose(image).convert("RGBA")
            photo = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
        if max(photo.size) > long_side:
            scale = long_side / max(photo.size)
            size = (max(1, round(photo.width * scale)), max(1, round(photo.height * scale)))
            photo = photo.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
        return np.asarray(photo)

    @pytest.mark.parametrize("size", [(64, 48), (65, 48), (99, 128), (128, 128), (128, 1), (127, 37)])
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "CMYK", "RGBA", "LA", "P", "1", "I;16"])
    def test_up_to_twice_the_size(self, kind: str, size: tuple[int, int]) -> None:
        image = _noise(*size)
        if kind == "I;16":
            image = Image.fromarray(np.asarray(image).astype(np.uint16)[..., 0] * 250)
        elif kind in ("LA", "RGBA"):
            image = Image.merge(kind, [*image.convert(kind).split()[:-1], image.getchannel("R")])
        elif kind in ("CMYK", "P", "1"):
            image = image.convert(kind)
        data = _saved(image, "JPEG" if kind in ("JPEG", "CMYK") else "PNG")
        np.testing.assert_array_equal(_read(data, 64).pixels, self.decoded_in_full(data, 64))

    @pytest.mark.parametrize("size", [(320, 250), (257, 700)])
    def test_far_above(self, size: tuple[int, int]) -> None:
        data = _saved(_noise(*size), "PNG")
        np.testing.assert_array_equal(_read(data, 60).pixels, self.decoded_in_full(data, 60))

    @pytest.mark.parametrize("size", [(1600, 1203), (901, 1600), (1600, 403)])
    def test_a_large_jpeg_is_close(self, size: tuple[int, int]) -> None:
        data = _saved(_noise(*size), "JPEG", quality=90)
        photo, expected = _read(data, 100, 10_000_000), self.decoded_in_full(data, 100)
        assert photo.pixels.shape == expected.shape
        assert photo.size == size[::-1]
        assert np.abs(photo.pixels.astype(int) - expected).mean() < 3

    @pytest.mark.parametrize("size", [(640, 480), (320, 1280)])
    def test_a_jpeg_is_decoded_at_no_less_than_one_and_a_half_times_the_size(
        self, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        resized = []
        resize = Image.Image.resize
        monkeypatch.setattr(
            Image.Image, "resize", lambda self, *a, **k: resized.append(self.size) or resize(self, *a, **k)
        )
        for long_side in (10, 53, 54, 107, 108, 213, 214):
            _read(_saved(_noise(*size), "JPEG"), long_side)
        assert [max(size) // max(each) for each in resized] == (
            [8, 8, 4, 4, 2, 2, 1] if size[0] == 640 else [8, 8, 8, 8, 4, 4, 2]
        )

    def test_small_photos_stay_as_they_are(self) -> None:
        assert _read(_saved(_noise(20, 10), "PNG"), 21).pixels.shape == (10, 20, 3)

    @pytest.mark.parametrize("long_side", [64, 320, 500])
    def test_real_photos(self, long_side: int) -> None:
        if not PHOTOS.is_dir():
            pytest.skip("../shared/data/voc-animals is not there")
        for path in sorted(PHOTOS.rglob("*.jpg"))[:4]:
            data = path.read_bytes()
            photo = _read(data, long_side)
            expected = self.decoded_in_full(data, long_side)
            assert photo.size == _read(data, MAX_SIDE).pixels.shape[:2]
            if max(photo.size) <= 2 * long_side:
                np.testing.assert_array_equal(photo.pixels, expected)
            else:
                assert np.abs(photo.pixels.astype(int) - expected).mean() < 2.5

    @given(st.integers(1, MAX_SIDE), st.integers(1, MAX_SIDE), st.integers(1, 4096))
    def test_scaled_size(self, width: int, height: int, long_side: int) -> None:
        scaled = scaled_size((width, height), long_side)
        assert max(scaled) == long_side
        assert abs(min(scaled) - max(1, long_side * min(width, height) / max(width, height))) <= 0.5


class TestLimits:
    @pytest.mark.parametrize("name", BOMBS)
    def test_too_many_pixels(self, name: str) -> None:
        refusal = _refusal(BOMBS[name])
        assert isinstance(refusal, TooLarge)
        assert (refusal.code, refusal.field, refusal.limit) == ("too_many_pixels", "image", 1_000_000)
        assert "1000000" in refusal.message
        assert "scale it down" in refusal.message
        assert re.search(r"\d{2}x\d+ pixels", refusal.message) or name == "GIF frame beyond Pillow's limit"

    def test_the_message_names_size_limit_and_field(self) -> None:
        with pytest.raises(TooLarge, match=r"image.*32x16.*511.*scale it down"):
            decode(FILES["PNG"][1], long_side=9, max_pixels=511)
        assert decode(FILES["PNG"][1], long_side=9, max_pixels=512).size == (16, 32)

    @pytest.mark.parametrize("name", FILES)
    def test_holds_for_every_format(self, name: str) -> None:
        assert _refusal(FILES[name][1], max_pixels=511).code == "too_many_pixels"

    def test_holds_for_heic(self) -> None:
        assert _refusal(TURNED_HEIC, max_pixels=511).code == "too_many_pixels"

    def test_nothing_is_set_aside_for_bombs(self) -> None:
        """In a process of its own, whose peak of memory is known."""
        script = (
            "import resource, sys\nfrom tagmask.errors import TooLarge\nfrom tagmask.photos import decode\n"
            "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\nbefore = peak()\n"
            "for line in sys.stdin:\n"
            "    try: decode(bytes.fromhex(line), long_side=320, max_pixels=50_000_000)\n"
            "    except TooLarge: print(peak() - before)\n"
        )
        lines = "\n".join(data.hex() for data in BOMBS.values())
        root = Path(__file__).parents[2]
        run = subprocess.run([sys.executable, "-c", script], input=lines, capture_output=True, text=True, cwd=root)
        assert run.stderr == ""
        grown = [int(line) for line in run.stdout.split()]
        assert len(grown) == len(BOMBS)
        assert max(grown) < 8 * 1024  # KiB

    def test_pillows_own_limit_warns_of_nothing(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            refusal = _refusal(_png((12_000, 12_000), 8, 0, []), max_pixels=200_000_000)
        assert refusal.code == "truncated_image"

    @pytest.mark.parametrize("size", [(1, 50_000_000), (50_000_000, 1), (MAX_SIDE + 1, 2)])
    def test_absurd_sides(self, size: tuple[int, int]) -> None:
        refusal = _refusal(_png(size, 1, 0, [b"\0"]), max_pixels=100_000_000)
        assert (refusal.status, refusal.code, refusal.limit) == (413, "side_too_long", MAX_SIDE)

    def test_the_longest_side(self) -> None:
        photo = _read(_png((1, MAX_SIDE), 1, 0, [b"\x80"] * MAX_SIDE), 320)
        assert (photo.size, photo.pixels.shape, photo.pixels.min()) == ((MAX_SIDE, 1), (320, 1, 3), 255)

    @pytest.mark.parametrize("data", [_png((0, 4), 8, 0, []), _gif((0, 0), (0, 0)), _tiff((0, 3)), _bmp(0, 4)])
    def test_no_pixels(self, data: bytes) -> None:
        assert _refusal(data).code == "broken_image"

    def test_metadata(self) -> None:
        """What comes in pieces without end."""
        png, gif, jpeg = FILES["PNG"][1], FILES["GIF"][1], FILES["JPEG"][1]
        at = gif.index(b",", 13 + 3 * 2 ** ((gif[10] & 7) + 1))
        segment = b"\xff\xe1\0\x0cExif\0\0MMMM"
        for data in (
            png[:33] + _chunk(b"zzZz", b"") * 100_000 + png[33:],
            png[:-12] + _chunk(b"zzZz", b"") * 100_000 + png[-12:],
            gif[:at] + b"!\xfe\1A\0" * 100_000 + gif[at:],
            jpeg[:2] + segment * 100_000 + jpeg[2:],
        ):
            assert _refusal(data).code == "broken_image"
        many = jpeg[:2] + (b"\xff\xed\xff\xff" + bytes(65_533)) * 100 + jpeg[2:]  # 6.5 MB in real pieces
        np.testing.assert_array_equal(_read(many).pixels, _read(jpeg).pixels)
        rows = zlib.compress(bytes(101 * 100), 0)
        pieces = [_chunk(b"IDAT", rows[at : at + 4]) for at in range(0, len(rows), 4)]
        assert _read(_png((100, 100), 8, 0, [], *pieces)).pixels.max() == 0

    @pytest.mark.parametrize("start", [b"iCCPp\0\0", b"zTXtk\0\0", b"iTXtk\0\1\0\0\0"])
    def test_a_profile_or_text_that_unpacks_to_much_is_left_out(self, start: bytes) -> None:
        png = FILES["PNG"][1]
        turned = _chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0")
        bomb = _chunk(start[:4], start[4:] + zlib.compress(bytes(20_000_000)))
        photo = _read(png[:33] + bomb + turned + bomb + png[33:])
        np.testing.assert_array_equal(photo.pixels, np.rot90(_read(png).pixels, -1))
        endless = _chunk(b"zzZz", b"") * 100_000
        assert _refusal(png[:33] + bomb + endless + png[33:]).code == "broken_image"

    def test_passes_of_a_progressive_jpeg(self) -> None:
        data = _saved(Image.new("RGB", (1000, 1000)), "JPEG", progressive=True)
        last = data.rindex(b"\xff\xda")
        one_pass = data[data.rindex(b"\xff\xc4", 0, last) : -2]
        assert _read(data[:-2] + one_pass + data[-2:]).size == (1000, 1000)
        assert "5011 passes" in _refusal(data[:-2] + one_pass * 5001 + data[-2:]).message


class TestRefusals:
    @pytest.mark.parametrize(
        ("data", "code"),
        [
            (b"", "empty_image"),
            (b"hello", "not_an_image"),
            (b"\0" * 5000, "not_an_image"),
            (base64.b64encode(FILES["JPEG"][1]), "not_an_image"),
            (b"http://example.org/cat.jpg", "url_not_fetched"),
            (b"  HTTPS://example.org/cat.jpg\n", "url_not_fetched"),
            (b"\xef\xbb\xbfhttps://example.org", "url_not_fetched"),
            (b"data:image/png;base64,iVBORw0KGgo=", "url_not_fetched"),
            (b"file:///etc/passwd", "url_not_fetched"),
            (b"s3://bucket/cat.jpg", "url_not_fetched"),
        ],
    )
    def test_no_photo(self, data: bytes, code: str) -> None:
        refusal = _refusal(data)
        assert isinstance(refusal, Unprocessable)
        assert (refusal.code, refusal.field) == (code, "image")
        assert "image" in refusal.message
        assert "bytes" in refusal.message

    @pytest.mark.parametrize(
        ("data", "name"),
        [
            (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
            (b"<?xml version='1.0'?>\n<!-- a cat -->\n<svg/>", "SVG"),
            (b"%PDF-1.7\n", "PDF"),
            (b"%!PS-Adobe-3.0 EPSF-3.0\n", "PostScript"),
            (b"8BPS\0\1" + bytes(20), "Photoshop"),
            (_saved(_quarters(), "ICO"), "icon"),
            (_saved(_quarters(), "JPEG2000"), "JPEG 2000"),
            (b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 1\nMAXVAL 255\nENDHDR\n\0", "Netpbm"),
            (b"Pf\n1 1\n-1.0\n\0\0\0\0", "Netpbm"),
            (b"\xff\x0a\xfa\x7f", "JPEG XL"),
            (b"\0\0\0\x18ftypmp42\0\0\0\0isommp42", "video"),
            (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "raw"),
            (b"II*\0\x10\0\0\0CR\2\0" + bytes(100), "raw"),
            (_tiff((32, 16), t254=1), "raw"),
            (_tiff((32, 16), t50706=0x401), "raw"),
        ],
    )
    def test_known_but_not_read(self, data: bytes, name: str) -> None:
        refusal = _refusal(data)
        assert isinstance(refusal, UnsupportedType)
        assert (refusal.code, refusal.field) == ("unsupported_image", "image")
        assert name in refusal.message
        assert "JPEG" in refusal.message or "image/jpeg" in refusal.message

    @pytest.mark.parametrize("name", [*FILES, "HEIC", "HEIC with alpha"])
    def test_a_file_that_breaks_off(self, name: str) -> None:
        """Cut anywhere, it is refused as that, unless all of the first picture is there."""
        data = {"HEIC": TURNED_HEIC, "HEIC with alpha": CLEAR_HEIC}.get(name) or FILES[name][1]
        pixels, codes = _read(data).pixels, []
        for end in range(40, len(data), max(1, len(data) // 60)):
            outcome = _outcome(data[:end])
            if isinstance(outcome, DecodedPhoto):
                np.testing.assert_array_equal(outcome.pixels, pixels)
            else:
                codes.append(outcome.code)
        assert codes.count("truncated_image") > 10
        between_boxes = name.endswith("AVIF") or name.startswith("HEIC")  # cut there, nothing tells that more is due
        assert len(codes) - codes.count("truncated_image") <= 2 * between_boxes

    def test_broken(self) -> None:
        data = bytearray(FILES["PNG"][1])
        data[20] ^= 1  # the height, against its checksum
        refusal = _refusal(bytes(data))
        assert (refusal.status, refusal.code) == (422, "broken_image")
        assert refusal.message == "image cannot be decoded as image/png; save the photo again and send that"

    @pytest.mark.parametrize(
        "fault", [MemoryError, ZeroDivisionError, KeyError, RuntimeError, OverflowError, zlib.error]
    )
    def test_whatever_a_decoder_raises(self, fault: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
        def load(image: Image.Image) -> None:
            raise fault("0x7f00deadbeef /usr/lib")

        monkeypatch.setattr(Image.Image, "load", load)
        refusal = _refusal(FILES["PNG"][1])
        assert refusal.code == "broken_image"
        assert "0x" not in refusal.message
        assert "/usr" not in refusal.message

    @settings(max_examples=150, deadline=None)
    @given(
        st.binary(max_size=200), st.sampled_from([b"", *(data[:24] for _, data in FILES.values()), TURNED_HEIC[:40]])
    )
    def test_any_bytes(self, data: bytes, start: bytes) -> None:
        self.answered(start + data)

    @settings(max_examples=400, deadline=None)
    @given(
        st.sampled_from([TURNED_HEIC, CLEAR_HEIC, *(data for _, data in FILES.values())]),
        st.lists(
            st.tuples(
                st.sampled_from(["cut", "flip", "insert", "delete"]),
                st.integers(0, 127) | st.integers(0, 5000),
                st.binary(min_size=1, max_size=8),
            ),
            min_size=1,
            max_size=5,
        ),
    )
    def test_any_mutation(self, data: bytes, changes: list[tuple[str, int, bytes]]) -> None:
        for change, position, piece in changes:
            at = position % (len(data) + 1)
            kept = {"cut": len(data), "insert": at}.get(change, at + len(piece))
            data = data[:at] + (piece if change in ("flip", "insert") else b"") + data[kept:]
        self.answered(data)

    @staticmethod
    def answered(data: bytes) -> None:
        outcome = _outcome(data, 40, 100_000)
        if isinstance(outcome, DecodedPhoto):
            assert outcome.pixels.dtype == np.uint8
            assert outcome.pixels.ndim == 3
            assert max(outcome.pixels.shape[:2]) <= 40
            assert 0 < outcome.size[0] * outcome.size[1] <= 100_000
        else:
            assert outcome.status in (413, 415, 422)
            assert outcome.field == "image"


def test_many_threads() -> None:
    files = [*(data for _, data in FILES.values()), TURNED_HEIC, CLEAR_HEIC] * 4
    expected = [_read(data).pixels for data in files]
    with ThreadPoolExecutor(8) as pool:
        for photo, pixels in zip(pool.map(_read, files), expected, strict=True):
            np.testing.assert_array_equal(photo.pixels, pixels)


def grey_tiff(extra_sample: int = 0, strips: int = 1) -> bytes:
    """A TIFF of 2x2 pixels of grey and an extra sample: 0 unspecified, 1 premultiplied alpha, 2 alpha."""
    pixels = bytes([100, 128, 50, 255, 0, 0, 64, 128])
    after = 8 + 2 + 10 * 12 + 4
    offsets = struct.pack(f"<{strips}I", *[after] * strips)
    entries = [
        (256, 4, 1, 2), (257, 4, 1, 2), (258, 3, 2, 8 | 8 << 16), (259, 3, 1, 1), (262, 3, 1, 1),
        (273, 4, strips, after if strips == 1 else after + len(pixels)), (277, 3, 1, 2), (278, 4, 1, 2), (279, 4, 1, 8),
        (338, 3, 1, extra_sample),
    ]  # fmt: skip
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + b"\0\0\0\0" + pixels + offsets


@pytest.mark.parametrize(("extra_sample", "shown"), [(0, [100, 50, 0, 64]), (1, [227, 50, 255, 191])])
def test_grey_tiff_with_an_extra_sample(extra_sample: int, shown: list[int]) -> None:
    photo = decode(grey_tiff(extra_sample), long_side=None, max_pixels=4)
    assert photo.pixels.reshape(-1, 3)[:, 0].tolist() == shown


def test_a_tiff_of_too_many_strips_is_refused_before_its_strips_are_listed() -> None:
    tracemalloc.start()
    with pytest.raises(Unprocessable, match="cut into too many pieces"):
        decode(data := grey_tiff(strips=1_000_000), long_side=None, max_pixels=4)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * len(data)


def test_a_jpeg_of_too_many_passes_is_refused() -> None:
    target = io.BytesIO()
    Image.new("RGB", (1000, 1000)).save(target, "JPEG", progressive=True)
    data = target.getvalue()
    last = data[data.rindex(b"\xff\xda") : -2]
    with pytest.raises(Unprocessable, match="passes over 1000x1000 pixels"):
        decode(data[:-2] + last * 1500 + data[-2:], long_side=None, max_pixels=10**6)


def test_libtiff_writes_nothing_to_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    target = io.BytesIO()
    Image.effect_noise((64, 64), 90).save(target, "TIFF", compression="tiff_lzw")
    data = target.getvalue()
    with pytest.raises(Unprocessable):
        decode(data[:8] + b"\xff" * 3000 + data[3008:], long_side=None, max_pixels=10**6)
    assert capfd.readouterr().err == ""


@given(
    mode=st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "I;16", "F"]),
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    long_side=st.integers(1, 60),
    orientation=st.integers(1, 8),
    strip=st.integers(1, 400),
    data=st.data(),
)
def test_a_photo_is_the_same_in_strips(
    mode: str, size: tuple[int, int], long_side: int, orientation: int, strip: int, data: st.DataObject
):
    noise = np.random.default_rng(data.draw(st.integers(0, 1000))).integers(0, 256, (*size[::-1], 4), dtype=np.uint8)
    image = Image.fromarray(noise[..., 0] * np.float32(250) if mode[0] in "IF" else noise)
    image = image.convert("I").convert(mode) if mode == "I;16" else image.convert(mode)
    upright = size if orientation < 5 else size[::-1]
    wanted = scaled_size(upright, min(long_side, max(upright)))
    whole = rendering.render(image, "image/tiff", b"", orientation, upright)
    in_strips = rendering.render(image, "image/tiff", b"", orientation, wanted, strip)
    resized = whole.resize(wanted, Image.Resampling.BILINEAR, reducing_gap=2.0)
    np.testing.assert_array_equal(np.asarray(in_strips), np.asarray(resized))
