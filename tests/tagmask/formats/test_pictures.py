"""The formats that are PNG: palette, confidence, overlay."""

import json
from io import BytesIO

import cv2
import numpy as np
import pytest
from PIL import Image

from tagmask.formats import confidence, overlay, png
from tagmask.segmentation import ModelInfo, Pixels, Segmentation
from tests.tagmask.formats.segmentations import CLASSES, IOUS, MASKS, MODEL, PALETTE, blobs, segmentation

CERTAIN = dict.fromkeys(range(256), 1.0)

every_mask = pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())


def opened(answer: bytes) -> Image.Image:
    image = Image.open(BytesIO(answer))
    image.load()
    assert image.format == "PNG"
    return image


@every_mask
def test_the_palette_png_holds_the_labels_their_colours_and_names(mask: Pixels) -> None:
    image = opened(png.encode(segmentation(mask)))
    assert image.mode == "P"
    np.testing.assert_array_equal(np.asarray(image), mask)
    colours = np.array(PALETTE, dtype=np.uint8)[mask]
    np.testing.assert_array_equal(np.asarray(image.convert("RGB")), colours)
    assert image.info["model"] == MODEL.version
    assert json.loads(image.info["classes"]) == {str(label): name for label, name in enumerate(CLASSES)}
    ious = {label: round(IOUS[label], 4) if (mask == label).any() else 0 for label in {1, 3, *np.unique(mask).tolist()}}
    assert json.loads(image.info["expected_iou"]) == {str(label): iou for label, iou in ious.items()}
    assert json.loads(image.info["low_confidence"]) is True


def test_other_readers_see_a_text_chunk_in_ascii_and_eight_bits_a_pixel() -> None:
    answer = png.encode(segmentation(MASKS["blobs"]))
    assert b"tEXtclasses\0{" in answer
    assert b"tEXtmodel\0" + MODEL.version.encode() in answer
    assert answer[24:26] == b"\x08\x03"  # IHDR: bit depth, colour type


def test_the_palette_takes_256_classes() -> None:
    mask = np.arange(256, dtype=np.uint8).reshape(16, 16)
    palette = tuple((label, 255 - label, label // 2) for label in range(256))
    model = ModelInfo("v", tuple(f"class {label}" for label in range(256)), palette)
    image = opened(png.encode(Segmentation(model, mask, tuple(range(256)), lambda: mask, lambda: mask, CERTAIN)))
    np.testing.assert_array_equal(np.asarray(image), mask)
    np.testing.assert_array_equal(np.asarray(image.convert("RGB")), np.array(palette, dtype=np.uint8)[mask])


@every_mask
def test_confidence_is_grey_and_lossless(mask: Pixels) -> None:
    original = segmentation(mask)
    image = opened(confidence.encode(original))
    assert image.mode == "L"
    np.testing.assert_array_equal(np.asarray(image), original.confidence)


@every_mask
def test_the_overlay_is_as_large_as_the_photo(mask: Pixels) -> None:
    image = opened(overlay.encode(segmentation(mask)))
    assert image.mode == "RGB"
    assert image.size == mask.shape[::-1]


def test_a_class_tints_its_pixels_and_background_shows_the_photo() -> None:
    mask = np.zeros((30, 40), dtype=np.uint8)
    mask[:, 20:] = 2
    photo = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)
    seen = np.asarray(opened(overlay.encode(segmentation(mask, photo)))).astype(int)
    np.testing.assert_array_equal(seen[:, :19], photo[:, :19])
    tinted = 0.45 * photo[:, 21:] + 0.55 * np.array(PALETTE[2])
    assert np.abs(seen[:, 21:] - tinted).max() <= 1
    assert (seen[:, 19:21] == 255).all(axis=2).any(axis=1).all()  # an outline in every row


def test_the_legend_stands_where_nothing_is_painted_and_shows_the_palette() -> None:
    mask = np.zeros((200, 400), dtype=np.uint8)
    mask[:, :180] = 3
    mask[120:, 300:] = 1
    seen = np.asarray(opened(overlay.encode(segmentation(mask))))
    for label in (1, 3):  # only the legend has a palette's colour in full
        rows, columns = np.nonzero((seen == PALETTE[label]).all(axis=2))
        assert rows.size > 50
        assert rows.max() < 100
        assert columns.min() > 200
    assert not (seen == PALETTE[2]).all(axis=2).any()


def test_a_photo_too_small_for_a_legend_and_many_classes_are_drawn_all_the_same() -> None:
    small = np.asarray(opened(overlay.encode(segmentation(np.ones((20, 30), dtype=np.uint8)))))
    assert (small == small[0, 0]).all()
    names = tuple(f"class {label}" for label in range(200))
    mask = np.arange(200, dtype=np.uint8).repeat(500).reshape(200, 500)
    photo = np.full((200, 500, 3), 60, dtype=np.uint8)
    model = ModelInfo("v", names, tuple((label, 200, 255 - label) for label in range(200)))
    crowded = Segmentation(model, mask, tuple(range(200)), lambda: mask, lambda: photo, CERTAIN)
    assert opened(overlay.encode(crowded)).size == (500, 200)


def test_a_mask_larger_than_the_picture_is_scaled_to_it() -> None:
    mask = blobs(150, 210)
    photo = np.full((50, 70, 3), 90, dtype=np.uint8)
    seen = np.asarray(opened(overlay.encode(segmentation(mask, photo)))).astype(int)
    assert seen.shape == (50, 70, 3)
    inner = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((9, 9), dtype=np.uint8)) == 0
    at = inner[1::3, 1::3] & (seen.max(axis=2) < 255)
    expected = np.where(mask[..., None] == 0, 90, 0.45 * 90 + 0.55 * np.array(PALETTE)[mask])[1::3, 1::3]
    assert at.sum() > 500
    assert np.abs(seen - expected)[at].max() <= 1


def test_by_the_default_palette_void_is_cream() -> None:
    photo = np.full((6, 6, 3), 100, dtype=np.uint8)
    mask = np.zeros((6, 6), dtype=np.uint8)
    mask[3:] = 1
    tinted = overlay.tint(photo, mask)
    assert (tinted[0] == 100).all()
    assert tinted[5, 0].tolist() == [115, 45, 45]
    assert (tinted[3] == 255).all()
    void = overlay.tint(photo, np.full((6, 6), 255, dtype=np.uint8))
    assert (void == (168, 168, 151)).all()  # 0.55 of VOC's cream, (224, 224, 192)
