"""Areas of classes in photos, as annotation formats describe them: outlines and run lengths, painted as corrections."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from tagmask.corrections import Correction
from tagmask.files import MAX_PNG_PIXELS
from tagmask.formats.coco import coco_pixels
from tagmask.masks import BACKGROUND, MAX_CLASSES, VOID
from tagmask.segmentation import Pixels

Size = tuple[int, int]
"""(height, width) in pixels."""

Paint = Callable[[Size], Pixels]
"""The pixels of an area in a photo of a size: (H, W) uint8, 0 or 1. Raises ValueError for an area that is malformed."""


@dataclass(frozen=True)
class Marks:
    """The areas of classes that a list names for a photo, with the size of the photo if the list states it.

    `image` is the photo's path or id in the list, `where` the place in it. `boxes` are around objects of classes, and
    `incomplete` names classes that may have pixels elsewhere too.
    """

    image: str
    where: str
    areas: Sequence[tuple[str, Paint]]
    size: Size | None = None
    boxes: Sequence[tuple[str, Paint]] = ()
    incomplete: frozenset[str] = frozenset()

    def correction(self, size: Size) -> Correction:
        """The correction with these areas, their classes complete; where areas overlap, the last one counts.

        If there are boxes, what is outside of all boxes and areas is background, unless a class is incomplete. Raises
        ValueError for areas that are malformed or were drawn at another size, and for more than MAX_CLASSES classes or
        MAX_PNG_PIXELS pixels.
        """
        names = tuple(dict.fromkeys(name for name, _ in self.areas))
        if min(size) < 1 or size[0] * size[1] > MAX_PNG_PIXELS or len(names) > MAX_CLASSES:
            raise ValueError(f"{size[1]}x{size[0]} pixels and {len(names)} classes")
        if self.size not in (None, size):
            raise ValueError(f"drawn on {_pixels(self.size)} pixels, and the photo has {_pixels(size)}")
        mask = np.full(size, 0 if self.boxes and not self.incomplete else VOID, dtype=np.uint8)
        for _, paint in self.boxes:
            mask[paint(size) == 1] = VOID
        for name, paint in self.areas:
            mask[paint(size) == 1] = names.index(name) + 1
        left = self.incomplete.union(name for name, _ in self.boxes)
        return Correction.of(mask, (BACKGROUND, *names), [name for name in names if name not in left])


def _pixels(size: Size | None) -> str:
    return "x".join(map(str, reversed(size or ())))


def outlined(corners: Sequence[float], shares: bool = False) -> Paint:
    """The inside of the outline with `corners` x, y, x, y, …, in pixels or as `shares` of width and height."""

    def paint(size: Size) -> Pixels:
        height, width = size
        points = np.array(corners, dtype=np.float64)
        if len(points) < 6 or len(points) % 2 or not np.isfinite(points).all():
            raise ValueError("an outline needs three corners or more, each with x and y")
        places = np.floor(points.reshape(-1, 2) * ((width, height) if shares else 1)).clip(-1, (width, height))
        pixels: Pixels = np.zeros(size, dtype=np.uint8)
        cv2.fillPoly(pixels, [places.astype(np.int32)], 1)
        return pixels

    return paint


def united(parts: Sequence[Paint]) -> Paint:
    """All pixels of several areas."""
    return lambda size: np.maximum.reduce([part(size) for part in parts])


def runs(counts: str | Sequence[int]) -> Paint:
    """The pixels of COCO's run lengths, compressed or not."""
    return lambda size: coco_pixels(counts, size)


def boxed_runs(counts: Sequence[int], left: int, top: int, size: Size) -> Paint:
    """The pixels of run lengths that go along the rows of a box of `size` at `left`, `top`."""

    def paint(whole: Size) -> Pixels:
        if min(left, top) < 0 or min(size) < 1 or top + size[0] > whole[0] or left + size[1] > whole[1]:
            raise ValueError("a mask is not inside its photo")
        pixels: Pixels = np.zeros(whole, dtype=np.uint8)
        pixels[top : top + size[0], left : left + size[1]] = coco_pixels(counts, (size[1], size[0])).T
        return pixels

    return paint
