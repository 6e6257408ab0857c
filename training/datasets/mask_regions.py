"""The masks of a data set's photos, class by class."""

from collections.abc import Iterator

import numpy as np

from tagmask.formats.regions import Region
from tagmask.formats.regions import regions as regions_of
from tagmask.masks import read_mask
from training.datasets.photos import Photo, TaggedPhotos


def regions(photo: Photo, data: TaggedPhotos) -> Iterator[Region]:
    """The classes in the photo's mask by ascending label; background and void have none."""
    assert photo.mask is not None
    mask = read_mask(photo.mask)
    labels = [label for label in np.unique(mask).tolist() if 0 < label < len(data.mask_classes)]
    return regions_of(mask, data.mask_classes, labels)


def mask_size(photo: Photo) -> tuple[int, int]:
    """Width and height in pixels of the photo's mask, which are those of the photo as it is displayed."""
    assert photo.mask is not None
    height, width = read_mask(photo.mask).shape
    return width, height
