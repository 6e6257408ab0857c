"""Corrections that are held out: no stage learns from their pixels, so that they can measure what was learned.

The tags of their photos are learned from as before. Photos are chosen by their bytes, so that corrections that arrive
later move no other from one side to the other, but for a class that has no other photo on this side.
"""

import hashlib
from collections.abc import Collection
from dataclasses import replace

from pydantic import BaseModel, Field

from tagmask import files
from tagmask.classes import spell
from tagmask.metadata import sample_digest
from training.datasets.photos import Photo, TaggedPhotos

LEAST = 20
"""Corrected photos from which on some are held out."""


class CorrectionsConfig(BaseModel, frozen=True, extra="forbid"):
    """What corrections are used for."""

    held_out: float = Field(
        0.2,
        ge=0,
        le=0.5,
        description=f"share of corrected photos that measure the result and teach only their tags, from {LEAST} on",
    )


def choose_held_out(data: TaggedPhotos, share: float, learned: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """The ids of the photos of `data` whose corrections are held out.

    These are photos whose digest, as a number from 0 to 1, is below `share`; and, of each class that 1 / `share` photos
    show, but none of these, the photo with the least number. `learned` are photos whose corrections were learned from
    before, each by its `sample_digest`; they are not chosen. Raises OSError for a photo that cannot be read.
    """
    corrected = {photo.id: spell(photo.correction.shown, data.classes) for photo in data.photos if photo.correction}
    if len(corrected) < LEAST or not share:
        return ()
    numbers = {photo.id: _number(photo, learned) for photo in data.photos if photo.id in corrected}
    chosen = {id for id, number in numbers.items() if number < share}
    for name in data.classes:
        shown = {id for id, classes in corrected.items() if name in classes}
        first = min(shown, key=numbers.__getitem__, default=None)
        if first is not None and len(shown) * share >= 1 and numbers[first] < 1:
            chosen.add(first)
    return tuple(sorted(chosen))


def hold_out(data: TaggedPhotos, ids: Collection[str]) -> tuple[TaggedPhotos, tuple[Photo, ...]]:
    """`data` without the corrections of the photos `ids`, and these photos with them."""
    held_out = tuple(photo for photo in data.photos if photo.correction and photo.id in ids)
    return replace(data, photos=tuple(without_correction(photo, ids) for photo in data.photos)), held_out


def without_correction(photo: Photo, ids: Collection[str]) -> Photo:
    """The photo, without its correction if it is one of `ids`."""
    return replace(photo, correction=None) if photo.correction and photo.id in ids else photo


def _number(photo: Photo, learned: frozenset[str]) -> float:
    """A number below 1 that the bytes of a photo give; 1 for one of `learned`."""
    content = hashlib.sha256(files.read_bytes(photo.path)).hexdigest()
    if sample_digest(content) in learned:
        return 1.0
    # Not the digest itself, by which the flows choose the photos that are not trained on at all.
    return int(hashlib.sha256(f"correction {content}".encode()).hexdigest()[:13], 16) / 16**13
