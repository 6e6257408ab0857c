"""Tagged photos: the types that every reader and every stage shares."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from tagmask import files
from tagmask.classes import class_key, find_class, spell
from tagmask.corrections import Correction, read_correction
from tagmask.errors import Fault

ListedMasks = tuple[Correction | None, Correction | None]
"""The correction and the hint that a list of photos states of one, as far as it does."""

FOREGROUND = "foreground"
"""The class of hints for whatever a photo is tagged with, where it is no tag."""


@dataclass(frozen=True, slots=True)  # as there may be a million
class Photo:
    """One photo and its tags.

    `id` is unique in its data set: the path below the data set's photo folder, without suffix, with `/` between parts
    ("2007_000063", "cat/ca1"). Every stage names its output for the photo by it. `tags` are sorted and hold learned
    classes only; a photo without tags shows none of them. `mask` is a ground-truth mask for measuring, never for
    training; `correction` is for training, and so is `hint`, what another model says.
    """

    id: str
    path: Path
    tags: tuple[str, ...]
    mask: Path | None = None
    correction: Correction | None = None
    hint: Correction | None = None

    def labels(self, classes: Sequence[str]) -> tuple[int, ...]:
        """Labels that the photo can hold when `classes` are learned: 0 (background) and one per tag, ascending."""
        return (0, *sorted(classes.index(tag) + 1 for tag in self.tags))


def listed_masks(record: Mapping[Any, Any]) -> ListedMasks:
    """Those in a JSON object of a list of photos, under `correction` or `hint`; a corrected photo has no hint.

    Raises ValueError for what is none.
    """
    if "correction" in record:
        return read_correction(record["correction"]), None
    return None, read_correction(record["hint"]) if "hint" in record else None


def rename_tags(photos: Iterable[Photo], names: Mapping[str, str]) -> Iterator[Photo]:
    """`photos` with their tags in `names` alone, as it names them, sorted. Those with the same tags share one tuple."""
    renamed: dict[tuple[str, ...], tuple[str, ...]] = {}
    for photo in photos:
        if photo.tags not in renamed:
            tags = tuple(sorted({names[tag] for tag in photo.tags if tag in names}))
            renamed[photo.tags] = photo.tags if tags == photo.tags else tags
        tags = renamed[photo.tags]
        yield photo if tags is photo.tags else replace(photo, tags=tags)


def spread(photos: Sequence[Photo], count: int) -> list[Photo]:
    """At most `count` of `photos`, evenly spread, in their order."""
    return [photos[place] for place in np.linspace(0, len(photos) - 1, min(count, len(photos)), dtype=int)]


@dataclass(frozen=True)
class TaggedPhotos:
    """A data set: photos in order of id, and the classes that are learned from their tags.

    `classes` holds the foreground classes alone, in the order of the model's labels 1, 2, …; label 0 is background.
    `mask_classes` names the values of the ground-truth masks (position = value, 0 = background); empty without masks.
    `faults` lists what was left out or ignored while reading. `layout` is the title of the layout that was read.
    `places` are the paths and URLs of the data, as they were named; `root` is on this machine.
    """

    root: Path
    classes: tuple[str, ...]
    photos: tuple[Photo, ...]
    mask_classes: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()
    layout: str = ""
    places: tuple[str, ...] = field(default=(), compare=False)

    @property
    def name(self) -> str:
        """What messages call the data."""
        return ", ".join(self.places) or str(self.root)

    def tagged(self, classes: Iterable[str]) -> list[Photo]:
        """The photos with a tag among `classes`, in any spelling."""
        keys = {class_key(name) for name in classes}
        tags = {tag for photo in self.photos for tag in photo.tags if class_key(tag) in keys}
        return [photo for photo in self.photos if not tags.isdisjoint(photo.tags)]

    def relevant(self, classes: Iterable[str]) -> list[Photo]:
        """The photos with a tag among `classes`, in any spelling, and those that show nothing."""
        tagged = {photo.id for photo in self.tagged(classes)}
        return [photo for photo in self.photos if photo.id in tagged or not photo.tags]

    def respelled(self, classes: Sequence[str]) -> Self:
        """The same data with the names in tags and masks as they are written in `classes`, whatever their spelling."""
        names = {tag: find_class(tag, classes) or tag for tag in {tag for photo in self.photos for tag in photo.tags}}
        return replace(
            self,
            classes=spell(self.classes, classes),
            photos=tuple(rename_tags(self.photos, names)),
            mask_classes=spell(self.mask_classes, classes),
        )

    def photos_per_class(self) -> dict[str, int]:
        """Photos that carry each class, in the order of `classes`."""
        tagged = Counter(tag for photo in self.photos for tag in photo.tags)
        return {name: tagged[name] for name in self.classes}

    @property
    def corrected(self) -> int:
        """The number of photos with a correction."""
        return sum(photo.correction is not None for photo in self.photos)

    @property
    def hinted(self) -> int:
        """The number of photos with a hint."""
        return sum(photo.hint is not None for photo in self.photos)

    def photo_digests(self) -> tuple[str, ...]:
        """The SHA-256 hex digest of the bytes of each photo. Raises OSError for a photo that cannot be read."""
        return tuple(hashlib.sha256(files.read_bytes(photo.path)).hexdigest() for photo in self.photos)

    def digest(self, photo_digests: Sequence[str] | None = None) -> str:
        """SHA-256 hex digest of classes, ids, tags, corrections, hints and photo bytes: equal for equal data sets.

        Reads the photos unless `photo_digests()` is given.
        """
        total = hashlib.sha256("\0".join(self.classes).encode())
        for photo, content in zip(self.photos, photo_digests or self.photo_digests(), strict=True):
            total.update(f"\n{photo.id}\0{' '.join(photo.tags)}\0{content}".encode())
            if photo.correction:
                total.update(json.dumps(asdict(photo.correction)).encode())
            if photo.hint:
                total.update(f"\nhint {json.dumps(asdict(photo.hint))}".encode())
        return total.hexdigest()
