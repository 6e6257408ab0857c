"""Corrections: pixels of a photo that a person vouches for. Training takes them as truth; the rest stays open.

As a file, a correction is a palette or greyscale PNG, as large as the photo is displayed: value 0 is background, 255 is
unlabelled, and other values are named by a classes.txt beside it, or by its text chunk "classes", as in the format
`png`.
Its text chunk "complete" lists the classes that the photo shows nowhere else. Lists hold the JSON of a Correction.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Self

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile
from pydantic import TypeAdapter, ValidationError

from tagmask import files
from tagmask.classes import class_key, class_name, class_name_fault, find_class
from tagmask.formats.coco import coco_pixels, coco_rle
from tagmask.formats.regions import plane
from tagmask.masks import BACKGROUND, MAX_CLASSES, VOID, mask_image


@dataclass(frozen=True)
class Correction:
    """What a person says about a photo of `size` (height, width) in pixels, as it is displayed.

    `areas` pairs a class, or "background", with its pixels, as compressed run lengths of COCO; pixels in no area are
    unlabelled. Classes that are `complete` have no pixels but those of their area, if any.
    """

    size: tuple[int, int]
    areas: tuple[tuple[str, str], ...]
    complete: tuple[str, ...] = ()

    @classmethod
    def of(cls, mask: np.ndarray, names: Sequence[str], complete: Sequence[str] = ()) -> Self:
        """The correction of `mask`, (H, W) uint8: positions in `names`, background first, and 255 for unlabelled."""
        height, width = mask.shape
        counts = Image.fromarray(mask).histogram()  # NumPy's functions sort, or cast to int64
        values = [value for value in range(VOID) if counts[value]]
        areas = tuple((names[value], coco_rle(plane(mask, value))["counts"]) for value in values)
        return cls((height, width), areas, tuple(complete))

    @property
    def shown(self) -> tuple[str, ...]:
        """The classes that have pixels, without background."""
        return tuple(name for name, _ in self.areas if name != BACKGROUND)

    @property
    def says_nothing(self) -> bool:
        """Whether it vouches for no pixel and no class."""
        return not self.areas and not self.complete

    def size_fault(self, size: tuple[int, int]) -> str | None:
        """Why it is of no use for a photo of `size`, (height, width), with the remedy; None if it fits."""
        if self.size == size:
            return None
        own, photo = (f"{width}x{height}" for height, width in (self.size, size))
        return f"it is {own} pixels large and the photo {photo}; make it as large as the photo is displayed"

    def labels(self, classes: Sequence[str]) -> np.ndarray:
        """The label of each pixel where `classes` are learned: (H, W) uint8, 255 = unlabelled, or of another class."""
        mask = np.full(self.size, VOID, dtype=np.uint8)
        for name, counts in self.areas:
            found = BACKGROUND if name == BACKGROUND else find_class(name, classes)
            if found is not None:
                mask[coco_pixels(counts, self.size) == 1] = 0 if found == BACKGROUND else classes.index(found) + 1
        return mask

    def without(self, classes: Sequence[str]) -> list[str]:
        """Those of `classes`, except background, that, by the correction, have no pixel in the photo."""
        absent = [name for name in classes if class_key(name) != BACKGROUND and not find_class(name, self.shown)]
        if absent and (self.labels(self.shown) != VOID).all():
            return absent
        return [name for name in absent if find_class(name, self.complete)]

    def encode(self, texts: Mapping[str, str] = MappingProxyType({})) -> bytes:
        """The correction as PNG, with its text chunks and further `texts` by their keywords."""
        names = dict(enumerate((BACKGROUND, *self.shown)))
        own = {"classes": json.dumps(names, separators=(",", ":")), "complete": " ".join(self.complete)}
        return files.encode_png(mask_image(self.labels(self.shown)), own | dict(texts))


def decode_correction(
    data: bytes,
    names: Sequence[str] = (),
    complete: Sequence[str] = (),
    size: tuple[int, int] | None = None,
    *,
    predicted: bool = False,
) -> Correction:
    """The correction in a PNG.

    `names` name its values from 0, background, on, unless its own text chunk does; `complete` adds to the classes that
    are complete. `size` is that of its photo, (height, width), if it is known. Raises ValueError for a file that is no
    such PNG, values without names, and what a model predicted, unless `predicted`.
    """
    image = files.decode_png(data, size)
    if image.mode not in ("P", "L"):
        raise ValueError(f"it must be a palette or greyscale PNG, not {image.mode}")
    if "model" in image.text and not predicted:
        raise ValueError("a model predicted it, and no one has saved it anew since")
    known = _class_names(names if names and "classes" not in image.text else _own_names(image))
    mask = np.array(image)
    beyond = mask[(mask >= len(known)) & (mask != VOID)]
    if beyond.size:
        raise ValueError(f"value {beyond[0]} has no name; valid are 0 to {len(known) - 1}, and {VOID}")
    said = (*image.text.get("complete", "").split(), *complete)
    return Correction.of(mask, known, tuple(dict.fromkeys(map(class_name, said))))


def read_correction(record: object) -> Correction:
    """The correction in a JSON value. Raises ValueError for anything else, and for run lengths that do not fit."""
    try:
        correction = _JSON.validate_python(record)
    except ValidationError as fault:
        raise ValueError(f"not a correction: {fault.errors()[0]['msg']}") from fault
    height, width = correction.size
    if min(height, width) < 1 or height * width > files.MAX_PNG_PIXELS:
        raise ValueError(f"a correction of {width}x{height} pixels")
    for _, counts in correction.areas:
        coco_pixels(counts, correction.size)
    return correction


_JSON = TypeAdapter(Correction)


def _own_names(image: PngImageFile) -> tuple[str, ...]:
    try:
        names = json.loads(image.text["classes"])
        return tuple(str(names[str(value)]) for value in range(len(names)))
    except (KeyError, TypeError, ValueError, RecursionError) as fault:
        raise ValueError("its values have no names; list them from 0, background, on") from fault


def _class_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names of values as those of classes."""
    known = tuple(map(class_name, names))
    if known[0] != BACKGROUND:
        raise ValueError(f"value 0 is {BACKGROUND}, not {known[0]!r:.80}")
    if len(known) > MAX_CLASSES + 1 or len(set(map(class_key, known))) < len(known):
        raise ValueError(f"its values must have different names, at most {MAX_CLASSES + 1}")
    for name in known[1:]:
        if fault := class_name_fault(name):
            raise ValueError(f"class {name!r:.80} {fault}")
    return known
