"""Photos that look the same: copies, also scaled or encoded again, and neighbours in a series of shots."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from tagmask.segmentation import Pixels

BITS = 64

MAX_BITS = 8
"""Bits of a hash in which near-duplicates may differ, as they do if 2% are cropped on each side."""

MAX_DIFFERENCE = 0.2
"""Mean difference of the thumbnails of near-duplicates, at most, as a share of the contrast of one of them.

Hashes alone confuse colours, and photos of textures in the same light.
"""

_COARSE, _THUMBNAIL = 32, 8  # pixels, width and height


@dataclass(frozen=True)
class Fingerprint:
    """What a photo looks like: `hash`, 64 bits of its coarse structure, and `thumbnail` (64, 3) int16, RGB, 0..255."""

    hash: int
    thumbnail: np.ndarray


def fingerprint(pixels: Pixels) -> Fingerprint:
    """Of a photo, (H, W, 3) uint8 RGB: the hash is OpenCV's pHash, the signs of the lowest frequencies."""
    coarse = cv2.resize(pixels, (_COARSE, _COARSE), interpolation=cv2.INTER_AREA)  # pHash itself would not average
    bits = cv2.img_hash.pHash(cv2.cvtColor(coarse, cv2.COLOR_RGB2GRAY))  # (1, 8) uint8
    thumbnail = cv2.resize(coarse, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA)
    return Fingerprint(int.from_bytes(bits.tobytes(), "big"), thumbnail.reshape(-1, 3).astype(np.int16))


def near_duplicates(prints: Sequence[Fingerprint], groups: Sequence[Hashable]) -> Iterator[tuple[int, int, float]]:
    """For each photo that has near-duplicates of another group after it, the positions of both, and their similarity.

    Of several the most similar is taken, so that a thousand copies give a thousand pairs at most. `groups` has a value
    per photo, such as its tags. The similarity is the share of equal bits, 1 for the same pixels. Takes time that is
    quadratic in the number of photos: some 10 s for 100,000.
    """
    hashes = np.array([each.hash for each in prints], dtype=np.uint64)
    numbers: dict[Hashable, int] = {}
    group = np.array([numbers.setdefault(each, len(numbers)) for each in groups], dtype=np.int64)
    for first, each in enumerate(prints):
        most = max(1.0, MAX_DIFFERENCE * np.abs(each.thumbnail - each.thumbnail.mean(axis=0)).mean())  # grey levels
        differing = np.bitwise_count(hashes[first + 1 :] ^ hashes[first])
        near = np.flatnonzero((differing <= MAX_BITS) & (group[first + 1 :] != group[first])).tolist()
        alike = [
            (int(differing[offset]), first + 1 + offset)
            for offset in near
            if np.abs(each.thumbnail - prints[first + 1 + offset].thumbnail).mean() <= most
        ]
        if alike:
            bits, second = min(alike)
            yield first, second, 1 - bits / BITS
