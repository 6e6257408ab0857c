"""Masks that are hard to write: for the formats of the service and of training alike."""

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.uint8]


def blobs(height: int, width: int, classes: int = 3, seed: int = 0) -> Mask:
    """Background and `classes` more in smooth patches, some inside others: (height, width)."""
    random = np.random.default_rng(seed)
    planes = [cv2.resize(random.normal(size=(12, 16)), (width, height)) for _ in range(classes + 1)]
    return np.argmax(planes, axis=0).astype(np.uint8)


def drawn(text: str) -> Mask:
    """A digit a pixel, a dot for background, a word a row."""
    return np.array([[int(c) if c != "." else 0 for c in row] for row in text.split()], dtype=np.uint8)


PINCHED = drawn("""
    .........
    .1111111.
    .1.11..1.
    .11.1.21.
    .1.1..11.
    .11133311
    .1.13.31.
    ..1133311
    1.......1
""")
"""Holes that touch the outside, each other and their rim only at corners, and a piece inside a hole."""
