"""Corrections: pixels of a photo that a person vouches for. Training takes them as truth; the rest stays open.

On disk a correction is a palette PNG, as large as the photo is displayed, called like the photo: value 0 is background,
other values are named in classes.txt, and 255 is not said. Its text chunk "complete" lists the classes that the photo
shows nowhere else; see `tagmask.masks.write_mask`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from tagmask.classes import find_class
from tagmask.formats.coco import coco_rle, pixels_of
from tagmask.formats.regions import plane
from tagmask.masks import BACKGROUND, VOID


@dataclass(frozen=True)
class Correction:
    """What a person says about a photo of `size` (height, width) in pixels, as it is displayed.

    `areas` pairs a class, or "background", with its pixels, as compressed run lengths of COCO; pixels in no area are
    not said. Classes that are `complete` have no pixels but those of their area, if any.
    """

    size: tuple[int, int]
    areas: tuple[tuple[str, str], ...]
    complete: tuple[str, ...] = ()

    @classmethod
    def of(cls, mask: np.ndarray, names: Sequence[str], complete: Sequence[str] = ()) -> Self:
        """The correction of `mask`, (H, W) uint8: positions in `names`, background first, and 255 for not said."""
        height, width = mask.shape
        values = [value for value in np.unique(mask).tolist() if value != VOID]
        areas = tuple((names[value], coco_rle(plane(mask, value))["counts"]) for value in values)
        return cls((height, width), areas, tuple(complete))

    @property
    def shown(self) -> tuple[str, ...]:
        """The classes that have pixels, without background."""
        return tuple(name for name, _ in self.areas if name != BACKGROUND)

    def labels(self, classes: Sequence[str]) -> np.ndarray:
        """The label of each pixel where `classes` are learned: (H, W) uint8, 255 = not said, or of another class."""
        mask = np.full(self.size, VOID, dtype=np.uint8)
        for name, counts in self.areas:
            found = BACKGROUND if name == BACKGROUND else find_class(name, classes)
            if found is not None:
                mask[pixels_of(counts, self.size) == 1] = 0 if found == BACKGROUND else classes.index(found) + 1
        return mask
