"""The form of a correction as a file and in lists; what learns from them is tested in tests/training."""

import json
import zlib
from dataclasses import asdict
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from tagmask.corrections import Correction, decode_correction, read_correction
from tagmask.files import encode_png
from tagmask.masks import PALETTE, VOID

NAMES = ("background", "cat", "Hütten-Käse")
MASK = np.array([[0, 1, VOID], [2, 2, VOID]], dtype=np.uint8)


def png(mask: np.ndarray = MASK, **texts: str) -> bytes:
    return encode_png(Image.fromarray(mask), texts)


@given(
    mask=arrays.arrays(
        np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.sampled_from([0, 1, 2, 255])
    ),
    complete=st.lists(st.sampled_from(NAMES[1:]), unique=True),
)
def test_a_correction_comes_back_from_its_file_and_from_its_json(mask: np.ndarray, complete: list[str]) -> None:
    correction = Correction.of(mask, NAMES, complete)
    assert decode_correction(correction.encode(), size=mask.shape) == correction
    assert read_correction(json.loads(json.dumps(asdict(correction)))) == correction
    np.testing.assert_array_equal(correction.labels(NAMES[1:]), mask)
    assert correction.says_nothing == ((mask == VOID).all() and not complete)


def test_its_file_can_be_looked_at_and_names_its_values() -> None:
    image = PngImageFile(BytesIO(Correction.of(MASK, NAMES, ["cat"]).encode({"annotation": "1/2"})))
    assert (image.mode, image.text["complete"], image.text["annotation"]) == ("P", "cat", "1/2")
    assert json.loads(image.text["classes"]) == {"0": "background", "1": "cat", "2": "Hütten-Käse"}
    assert np.array(image.convert("RGB"))[0, 1].tolist() == list(PALETTE[1])


def test_its_text_chunk_goes_before_the_names_given_beside_it() -> None:
    own = png(classes='{"0": "background", "1": "a", "2": "b"}', complete="owl")
    names = ["background", "Polar bear", "dog"]
    correction = decode_correction(own, names, ["dog", "owl"])
    assert (correction.shown, correction.complete) == (("a", "b"), ("owl", "dog"))
    assert decode_correction(png(), names).shown == ("Polar_bear", "dog")


@pytest.mark.parametrize(
    ("data", "names", "why"),
    [
        (b"no PNG", NAMES, "not a PNG that can be read"),
        (png()[:50], NAMES, "not a PNG that can be read"),
        (encode_png(Image.new("RGB", (3, 2))), NAMES, "it must be a palette or greyscale PNG, not RGB"),
        (encode_png(Image.new("I;16", (3, 2))), NAMES, "it must be a palette or greyscale PNG, not I;16"),
        (png(np.zeros((2, 4), dtype=np.uint8)), NAMES, "4x2 pixels large, and the photo 3x2"),
        (png(model="0123456789ab"), NAMES, "a model predicted it, and no one has saved it anew since"),
        (png(), (), "its values have no names; list them from 0, background, on"),
        (png(classes="[1]"), (), "its values have no names"),
        (png(classes='{"1": "cat"}'), (), "its values have no names"),
        (png(), NAMES[:2], "value 2 has no name; valid are 0 to 1, and 255"),
        (png(), ("cat", "dog", "owl"), "value 0 is background, not 'cat'"),
        (png(), ("background", "Cat", "cat"), "its values must have different names, at most 255"),
        (png(), ("background", "cat", "x" * 65), "has 65 characters, more than 64"),
        (png(), ("background", "cat", ""), "class '' is empty"),
    ],
)
def test_what_is_no_correction_is_refused_with_the_reason(data: bytes, names: tuple[str, ...], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        decode_correction(data, names, size=(2, 3))


def test_a_large_file_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(ValueError, match="50000x50000 pixels, more than 100,000,000"):
        decode_correction(header_of(50_000), NAMES)
    with pytest.raises(ValueError, match="5000x5000 pixels large, and the photo 3x2"):
        decode_correction(header_of(5_000), NAMES, size=(2, 3))


def header_of(side: int) -> bytes:
    """A PNG of `side` pixels each way that has the data of one pixel."""
    small = png(np.zeros((1, 1), dtype=np.uint8))
    header = small[12:16] + side.to_bytes(4, "big") * 2 + small[24:29]
    return small[:12] + header + zlib.crc32(header).to_bytes(4, "big") + small[33:]


@pytest.mark.parametrize(
    "record",
    [
        None,
        {},
        {"size": [2, 3]},
        {"size": [2, 3], "areas": [["cat", "6"]], "complete": "cat"},
        {"size": [10**6, 10**6], "areas": []},
        {"size": [0, 3], "areas": []},
        {"size": [2, 3], "areas": [["cat", "5"]]},
        {"size": [2, 3], "areas": [["cat", "\x00"]]},
    ],
)
def test_json_that_is_no_correction_is_refused(record: object) -> None:
    with pytest.raises(ValueError, match=r"^(not a correction|a correction of|run lengths)[^\n]*$"):
        read_correction(record)


def test_it_tells_which_classes_it_leaves_no_pixel() -> None:
    correction = Correction.of(MASK, NAMES, ["owl", "cat", "background"])
    assert correction.without(["Cat", "dog", "owl", "Background"]) == ["owl"]
    assert Correction.of(np.zeros((2, 2), dtype=np.uint8), NAMES).without(["dog"]) == ["dog"]
