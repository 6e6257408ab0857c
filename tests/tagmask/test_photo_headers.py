"""What a photo's first bytes say: its type, its size and its length; and how often a reader may read."""

import io
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tagmask.photos import decode
from tagmask.photos.readers import Tape, TooManyReadsError, stated_length, webp_size
from tagmask.photos.recognition import recognise
from tagmask.photos.refusals import PhotoRefusedError

WEBP: list[dict[str, Any]] = [{"lossless": False}, {"lossless": True}, {"lossless": False, "exif": b"Exif\0\0MM\0*"}]


def saved(size: tuple[int, int], kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (90, 40, 200)).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("options", WEBP, ids=["lossy", "lossless", "extended"])
@pytest.mark.parametrize("size", [(1, 1), (300, 2), (2, 300), (257, 514)])
def test_the_size_of_a_webp(options: dict[str, Any], size: tuple[int, int]) -> None:
    assert webp_size(saved(size, "WEBP", **options)) == size


@given(st.integers(1, 2**14), st.integers(1, 2**14))
def test_any_size_of_a_lossless_webp(width: int, height: int) -> None:
    bits = (width - 1) | (height - 1) << 14 | 3 << 28  # with alpha, and bits of the version
    assert webp_size(b"RIFF....WEBPVP8L....\x2f" + struct.pack("<I", bits)) == (width, height)


@given(st.integers(1, 2**24), st.integers(1, 2**24))
def test_any_size_of_an_extended_webp(width: int, height: int) -> None:
    sides = (side.to_bytes(3, "little") for side in (width - 1, height - 1))
    assert webp_size(b"RIFF....WEBPVP8X........" + b"".join(sides)) == (width, height)


@given(st.integers(1, 2**14 - 1), st.integers(1, 2**14 - 1), st.integers(0, 3), st.integers(0, 3))
def test_any_size_of_a_lossy_webp(width: int, height: int, scale: int, other: int) -> None:
    """Above the 14 bits of a side are two that ask for scaling, which nobody does."""
    sides = struct.pack("<HH", width | scale << 14, height | other << 14)
    assert webp_size(b"RIFF....WEBPVP8 ....\0\0\0\x9d\x01\x2a" + sides) == (width, height)


@pytest.mark.parametrize("kind", ["WEBP", "BMP", "AVIF"])
@pytest.mark.parametrize("size", [(7, 5), (300, 200)])
def test_the_length_that_a_file_states(kind: str, size: tuple[int, int]) -> None:
    data = saved(size, kind)
    assert stated_length(data) == len(data)
    assert stated_length(data[: len(data) // 2]) >= len(data) // 2


def box(kind: bytes, content: bytes, wide: bool = False) -> bytes:
    """A box of an ISO media file; the size of a `wide` one has 64 bits."""
    size = struct.pack(">I4sQ", 1, kind, 16 + len(content)) if wide else struct.pack(">I4s", 8 + len(content), kind)
    return size + content


def test_the_length_of_boxes() -> None:
    start = box(b"ftyp", b"avif\0\0\0\0")
    assert stated_length(start + box(b"mdat", bytes(40), wide=True) + box(b"free", b"")) == 16 + 56 + 8
    assert stated_length(start + box(b"mdat", bytes(1000), wide=True)[:20]) == 16 + 1016
    assert stated_length(start + struct.pack(">I4s", 0, b"mdat") + bytes(99)) == 0  # to the end of the file
    assert stated_length(start + struct.pack(">I4s", 3, b"free")) == 16 + 8  # no box is shorter than its header
    assert stated_length(b"\xff\xd8\xff" + bytes(30)) == 0


def test_brands_count_in_the_first_box_alone() -> None:
    assert recognise(box(b"ftyp", b"mif1\0\0\0\0mif1miafavif")) == "image/avif"
    long = box(b"ftyp", b"mif1\0\0\0\0avif" + b"miaf" * 63)
    assert long[:4] == b"\0\0\x01\x10"
    assert recognise(long) == "image/avif"
    ten = box(b"ftyp", b"mif1\0\0\0\0avif" + b"x" * 246)
    assert ten[3] == ord("\n")
    assert recognise(ten) == "image/avif"
    with pytest.raises(PhotoRefusedError, match="a video"):
        recognise(box(b"ftyp", b"isom\0\0\0\0") + box(b"free", b"avif"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"https://example.org/cat.jpg", "image is a URL, and URLs are not fetched; send the bytes of a photo"),
        (saved((64, 64), "PNG")[:60], "image is image/png cut off after 60 bytes; send the whole file"),
    ],
)
def test_the_message_says_what_is_wrong_and_what_to_send(data: bytes, message: str) -> None:
    with pytest.raises(Exception, match="image") as refusal:
        decode(data, long_side=None, max_pixels=10**6)
    assert str(refusal.value) == message


def test_a_reader_may_read_so_often_and_no_more() -> None:
    """In the header, where less than asked for means that the file is cut off; then, more often, in the pixels."""
    tape = Tape(b"ab")
    assert tape.read(1) == b"a"
    assert not tape.ran_out
    assert tape.read(2) == b"b"
    assert tape.ran_out
    for _ in range(4998):
        tape.read(0)
    with pytest.raises(TooManyReadsError):
        tape.read(0)
    tape = Tape(b"ab")
    tape.leave_header()
    for _ in range(200_000):
        tape.read(9)
    assert not tape.ran_out
    with pytest.raises(TooManyReadsError):
        tape.read(9)


def test_comments_among_the_samples_of_a_plain_netpbm() -> None:
    data = b"P2\n# a header's\n3 1\n10\n0 # the first, not 9 9\n5\n# 7\n10\n"
    np.testing.assert_array_equal(decode(data, long_side=None, max_pixels=9).pixels[0, :, 0], [0, 128, 255])


@pytest.mark.parametrize("orientation", [0, 9])
def test_an_orientation_that_does_not_exist_turns_nothing(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = decode(saved((9, 4), "PNG", exif=exif), long_side=None, max_pixels=99)
    assert (photo.size, photo.turned) == ((4, 9), False)
