"""The pixels of one class in a mask, and how formats write them."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from tagmask.masks import read_mask
from training.datasets.photos import Photo, TaggedPhotos


@dataclass(frozen=True)
class Region:
    """All pixels of one class: (H, W) uint8, 0 or 1, with the tightest `box` around them, (x, y, width, height)."""

    label: int
    name: str
    pixels: NDArray[np.uint8]
    box: tuple[int, int, int, int]

    @property
    def inside(self) -> NDArray[np.uint8]:
        """The pixels in the box, (height, width)."""
        x, y, width, height = self.box
        return self.pixels[y : y + height, x : x + width]


def regions(photo: Photo, data: TaggedPhotos) -> Iterator[Region]:
    """The classes in the photo's mask by ascending label; background and void have none."""
    assert photo.mask is not None
    mask = read_mask(photo.mask)
    for label in np.unique(mask).tolist():
        if 0 < label < len(data.mask_classes):
            pixels = (mask == label).view(np.uint8)
            x, y, width, height = cv2.boundingRect(pixels)
            yield Region(label, data.mask_classes[label], pixels, (x, y, width, height))


def mask_size(photo: Photo) -> tuple[int, int]:
    """Width and height in pixels of the photo's mask, which are those of the photo as it is displayed."""
    assert photo.mask is not None
    with Image.open(photo.mask) as mask:
        return mask.size


def coco_rle(pixels: NDArray[np.uint8]) -> dict[str, object]:
    """COCO's compressed run lengths of `pixels`, (H, W) uint8, 0 or 1."""
    height, width = pixels.shape
    return {"size": [height, width], "counts": coco_mask.encode(np.asfortranarray(pixels))["counts"].decode("ascii")}


def run_lengths(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Lengths of the runs of equal values in `pixels`, uint8, 0 or 1, row after row, taking turns from zeros on.

    The first length is 0 where the first pixel is 1.
    """
    flat = np.concatenate(([0], pixels.reshape(-1)))
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(np.concatenate(([0], changes, [pixels.size])))
