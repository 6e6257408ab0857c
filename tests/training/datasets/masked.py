"""Photos with masks to write in every format: the usual and the odd."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tagmask.masks import VOID, read_mask, write_mask
from tests.odd_masks import PINCHED, blobs, drawn
from training.datasets.photos import Photo, TaggedPhotos

CLASSES = ("background", "cat", "öl-kanne", 'the_"猫"&\'<x>')

Pixels = NDArray[np.uint8]


RING = drawn("""
    ..........
    .11111111.
    .1......1.
    .1.1111.1.
    .1.1..1.1.
    .1.1111.1.
    .1......1.
    .11111111.
    ..........
""")

MASKS: dict[str, Pixels] = {
    "blobs": blobs(75, 100),
    "cat/large": blobs(480, 640, seed=1),
    "cat/ring": RING,
    "cat/pinched": PINCHED,
    "dog/background": np.zeros((6, 9), dtype=np.uint8),
    "dog/full": np.full((6, 9), 3, dtype=np.uint8),
    "dog/one": np.eye(5, 7, dtype=np.uint8) * (np.arange(5)[:, None] == 2),
    "dog/row": np.array([[0, 0, 1, 1, 3, 0, 2]], dtype=np.uint8),
    "dog/column": np.array([[3], [3], [0], [1]], dtype=np.uint8),
    "checkerboard": (np.indices((9, 8)).sum(axis=0) % 2 * 2).astype(np.uint8),
    "void": np.where(blobs(30, 40) == 1, VOID, blobs(30, 40)).astype(np.uint8),
}
"""By id."""


def masked(root: Path, masks: dict[str, Pixels] = MASKS) -> TaggedPhotos:
    """Noisy photos in `root`/images, tagged with what their masks in `root`/truth show."""
    photos = []
    for index, (name, mask) in enumerate(sorted(masks.items())):
        path, truth = root / "images" / f"{name}.jpg", root / "truth" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(index).integers(0, 256, (*mask.shape, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        write_mask(truth, mask)
        tags = tuple(sorted(CLASSES[label] for label in np.unique(mask) if 0 < label < len(CLASSES)))
        photos.append(Photo(name, path, tags, truth))
    return TaggedPhotos(root, CLASSES[1:], tuple(photos), CLASSES)


def expected(photo: Photo) -> Pixels:
    """The photo's mask, with background for void."""
    assert photo.mask is not None
    mask = read_mask(photo.mask)
    return np.where(mask == VOID, 0, mask).astype(np.uint8)
