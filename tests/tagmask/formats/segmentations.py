"""Segmentations to write in every format: the usual and the odd."""

import json
from typing import Any

import numpy as np

from tagmask.segmentation import Colour, ModelInfo, Pixels, Segmentation
from tests.odd_masks import PINCHED, blobs

CLASSES = ("background", "cat", "öl kanne", 'the "猫"', "horse, person's")
PALETTE: tuple[Colour, ...] = ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128))
IOUS = {0: 0.9, 1: 0.12345, 2: 0.5, 3: 0.25, 4: 1.0}
MODEL = ModelInfo("0123456789abcdef", CLASSES, PALETTE)


def segmentation(mask: Pixels, picture: Pixels | None = None) -> Segmentation:
    """`mask`, (H, W) uint8 with labels below 5, of tags 1 and 3, with a confidence that differs from pixel to pixel."""
    height, width = mask.shape
    confidence = (np.arange(height * width).reshape(height, width) * 7 % 156 + 100).astype(np.uint8)
    photo = np.full((height, width, 3), 90, dtype=np.uint8) if picture is None else picture
    labels = tuple(range(len(CLASSES)))
    return Segmentation(MODEL, mask, labels, lambda: confidence, lambda: photo, IOUS, given=(1, 3))


def _one_pixel() -> Pixels:
    mask = np.zeros((5, 7), dtype=np.uint8)
    mask[2, 3] = 2
    return mask


MASKS: dict[str, Pixels] = {
    "blobs": blobs(75, 100),
    "all classes": blobs(60, 40, 4),
    "only background": np.zeros((6, 9), dtype=np.uint8),
    "full": np.full((6, 9), 3, dtype=np.uint8),
    "one pixel": _one_pixel(),
    "1 x 1": np.ones((1, 1), dtype=np.uint8),
    "1 x N": np.array([[0, 0, 1, 1, 4, 0, 2]], dtype=np.uint8),
    "N x 1": np.array([[3], [3], [0], [1], [4]], dtype=np.uint8),
    "touching": np.repeat(np.arange(5, dtype=np.uint8), 4)[None].repeat(8, axis=0),
    "pinched": PINCHED,
    "checkerboard": (np.indices((9, 8)).sum(axis=0) % 2 * 2).astype(np.uint8),
    "transposed": blobs(100, 75).T,
}
"""By what is odd about them. Labels are below 5."""


def parse(answer: bytes) -> Any:
    """The JSON document in `answer`, which must be compact."""
    document = json.loads(answer)
    assert answer == json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    return document
