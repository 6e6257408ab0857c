"""What a person vouches for in a photo, by its correction: the one place from which all stages take it."""

from collections.abc import Sequence

import cv2
import numpy as np

from tagmask.classes import find_class
from tagmask.corrections import Correction
from tagmask.masks import VOID
from tagmask.photos import scaled_size
from training.datasets.photos import Photo, TaggedPhotos
from training.stages.pooling import label_shares

PURE = 0.8
"""Part of the vouched pixels of a superpixel that must agree for the superpixel to be of their label."""

WHOLE = 0.9
"""Part of the pixels of a photo that a person must vouch for to tell how large things are."""


def possible_labels(photo: Photo, classes: tuple[str, ...], size: tuple[int, ...]) -> np.ndarray | None:
    """Which of the photo's L labels each pixel can have: (L, H, W) bool for the `size` (H, W), at least one each.

    One where a person vouches for it; elsewhere all but the classes that are complete. None without a correction.
    """
    if photo.correction is None:
        return None
    return left_open(photo.correction, [classes[label - 1] for label in photo.labels(classes)[1:]], size)


def left_open(mask: Correction, tags: Sequence[str], size: tuple[int, ...]) -> np.ndarray:
    """Which of background and `tags` each pixel can have by `mask`: (1 + K, H, W) bool for the `size` (H, W)."""
    height, width = size
    said = cv2.resize(mask.labels(tags), (width, height), interpolation=cv2.INTER_NEAREST)
    complete = [False, *(find_class(tag, mask.complete) is not None for tag in tags)]
    return np.stack([(said == place) | ((said == VOID) & (not each)) for place, each in enumerate(complete)])


def vouched_labels(photo: Photo, classes: tuple[str, ...], size: tuple[int, ...]) -> np.ndarray:
    """The label of each pixel that can have only one by the photo's correction: (H, W) uint8, 255 elsewhere."""
    possible = possible_labels(photo, classes, size)
    if possible is None:
        return np.full(size, VOID, dtype=np.uint8)
    labels = np.array(photo.labels(classes), dtype=np.uint8)[possible.argmax(axis=0)]
    return np.where(possible.sum(axis=0) == 1, labels, VOID).astype(np.uint8)


def vouched_regions(photo: Photo, classes: tuple[str, ...], regions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The label of most vouched pixels of each superpixel, (R,) uint8, and whether it has any, (R,) bool.

    255 where none, or pixels of several labels, are vouched for; `regions` is (H, W) int.
    """
    shares = label_shares(vouched_labels(photo, classes, regions.shape), regions, len(classes) + 1)
    said = shares.sum(axis=1)
    is_pure = (shares.max(axis=1) >= PURE * said) & (said > 0)
    return np.where(is_pure, shares.argmax(axis=1), VOID).astype(np.uint8), said > 0


def known_shares(data: TaggedPhotos, long_side: int) -> tuple[np.ndarray, np.ndarray]:
    """The share of each label in all pixels by corrections, (labels,) float64, 0..1, and by how many photos, (labels,).

    Pixels are counted where the longer side is `long_side`. Only photos of which at least WHOLE is labelled count. A
    class covers as much of all photos with its tag as of these; 0 if of none.
    """
    parts: list[list[float]] = [[] for _ in range(len(data.classes) + 1)]
    for photo in data.photos:
        if photo.correction is None:
            continue
        mask = vouched_labels(photo, data.classes, scaled_size(photo.correction.size, long_side))
        counts = np.bincount(mask[mask != VOID], minlength=len(parts))
        if counts.sum() >= WHOLE * mask.size:
            for label in photo.labels(data.classes):
                parts[label].append(counts[label] / counts.sum())
    tagged = np.array([len(data.photos), *data.photos_per_class().values()]) / len(data.photos)
    shares = tagged * [sum(part) / max(1, len(part)) for part in parts]
    return shares, np.array([len(part) for part in parts])


def limit(probabilities: np.ndarray, possible: np.ndarray | None) -> np.ndarray:
    """`probabilities` (L, H, W) of the labels that are `possible`, see `possible_labels`, with a sum of 1."""
    if possible is None:
        return probabilities
    limited = np.where(possible, probabilities.clip(1e-6), 0)
    return (limited / limited.sum(axis=0)).astype(np.float32)
