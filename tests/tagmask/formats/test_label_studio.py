from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tagmask.formats import label_studio
from tagmask.segmentation import Pixels
from tests.tagmask.formats.segmentations import CLASSES, MASKS, MODEL, parse, segmentation

EncodeRle = Callable[[Pixels], Sequence[int]]


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
def test_label_studio_decodes_every_result_to_its_class(mask: Pixels, decode_rle: Callable[[list[int]], Any]) -> None:
    rebuilt = np.zeros_like(mask)
    for result in parse(label_studio.encode(segmentation(mask)))["result"]:
        assert (result["original_height"], result["original_width"]) == mask.shape
        (name,) = result["value"]["brushlabels"]
        rgba = decode_rle(result["value"]["rle"]).reshape(*mask.shape, 4)
        where = rgba == 255
        assert (where.all(axis=2) | (rgba == 0).all(axis=2)).all()
        rebuilt[where[..., 3]] = CLASSES.index(name)
    np.testing.assert_array_equal(rebuilt, mask)


@settings(deadline=None)
@given(lengths=st.lists(st.integers(1, 5) | st.sampled_from([16, 64, 65, 16384, 16385, 32768, 40000]), max_size=8))
def test_runs_of_any_length_come_back(lengths: list[int], decode_rle: Callable[[list[int]], Any]) -> None:
    pixels = np.repeat(np.arange(len(lengths) + 1) % 2, [*lengths, 1]).astype(np.uint8)[None]
    decoded = decode_rle(label_studio.brush_rle(pixels).tolist())
    np.testing.assert_array_equal(decoded, pixels[0].repeat(4) * 255)


@settings(deadline=None)
@given(
    opaque=arrays.arrays(
        np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.sampled_from([0, 127, 128, 255])
    ),
    colour=st.lists(st.integers(0, 255), min_size=3, max_size=3),
)
def test_what_label_studio_encodes_is_decoded(opaque: Pixels, colour: list[int], encode_rle: EncodeRle) -> None:
    """Its brush paints in colours; in neighbouring pixels that differ, it writes literal values."""
    rgba = np.dstack([*(np.full_like(opaque, part) for part in colour), opaque])
    pixels = label_studio.brush_pixels(encode_rle(rgba.ravel()), opaque.shape)
    np.testing.assert_array_equal(pixels, opaque >= 128)


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
def test_our_own_runs_are_decoded(mask: Pixels) -> None:
    for label in np.unique(mask):
        pixels = (mask == label).view(np.uint8)
        np.testing.assert_array_equal(
            label_studio.brush_pixels(label_studio.brush_rle(pixels).tolist(), mask.shape), pixels
        )


@given(data=st.binary(max_size=40), total=st.sampled_from([4, 16, 64]))
def test_damaged_runs_are_refused(data: bytes, total: int) -> None:
    head = label_studio.brush_rle(np.zeros((1, total // 4), dtype=np.uint8)).tolist()[:6]
    with suppress(ValueError):
        assert label_studio.brush_pixels([*head, *data], (1, total // 4)).shape == (1, total // 4)
    with pytest.raises(ValueError, match="a brush mask is damaged"):
        label_studio.brush_pixels(head, (1, total // 4))


def test_one_pixel_in_bits() -> None:
    """4 bytes; 8 bits a value; lengths of 3, 4, 8 and 16 bits; then one run, its length in 3 bits: 4 times 255."""
    bits = f"{4:032b}" + "00111" + "0010" + "0011" + "0111" + "1111" + "1" + "00" + "011" + "11111111" + "00000"
    expected = [int(bits[at : at + 8], base=2) for at in range(0, len(bits), 8)]
    assert label_studio.brush_rle(np.ones((1, 1), dtype=np.uint8)).tolist() == expected


def test_scores_are_mean_confidences_and_ids_differ() -> None:
    mask = MASKS["all classes"]
    original = segmentation(mask)
    document = parse(label_studio.encode(original))
    assert document["model_version"] == MODEL.version
    assert document["score"] == pytest.approx(original.confidence.mean() / 255, abs=1e-4)
    results = document["result"]
    for result in results:
        where = mask == CLASSES.index(result["value"]["brushlabels"][0])
        assert result["score"] == pytest.approx(original.confidence[where].mean() / 255, abs=1e-4)
    assert len({result["id"] for result in results}) == len(results) == 4
