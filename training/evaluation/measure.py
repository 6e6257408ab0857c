"""How good what a stage wrote is: against true masks where they are at hand, and without any.

True masks are read here, to measure, and nowhere else in training.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from tagmask.masks import VOID, read_mask
from training.datasets.photos import Photo, TaggedPhotos
from training.evaluation.metrics import Counts, confusion
from training.run.layout import Layout
from training.stages import superpixels, work

PRESENT = 0.01
"""A class counts as seen in a photo from this share of its pixels."""


def truth_table(mask_classes: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """(256,) uint8: true mask value -> label of the model; classes that are not learned, and 255, become void."""
    table = np.full(256, VOID, dtype=np.uint8)
    table[0] = 0
    for label, name in enumerate(classes, start=1):
        if name in mask_classes:
            table[mask_classes.index(name)] = label
    return table


def stage_mask(photo: Photo, stage: str, *, layout: Layout, number: int, classes: Sequence[str]) -> np.ndarray:
    """What `stage` of round `number` says of a photo, as a mask: (H, W) uint8 labels, 255 void, at working size.

    Stages: "maps" (class maps of a localizer, averaged over superpixels for the tag classifier), "seeds", "regions",
    "refined", "labels".
    """
    here = layout.round(number)
    if stage == "labels":
        return read_mask(here.labels(photo.id))
    if stage == "seeds":
        seeds: np.ndarray = np.load(here.seeds(photo.id))
        return seeds[superpixels.read(layout.superpixels(photo.id))]
    if stage == "regions":
        probabilities = work.painted_regions(photo, layout, here)
    elif stage == "refined":
        probabilities = work.refined_regions(photo, layout, here)
    elif number == 0:
        probabilities = work.painted_class_maps(photo, layout)
    else:
        regions = superpixels.read(layout.superpixels(photo.id))
        probabilities = work.resize_maps(np.load(here.maps(photo.id)).astype(np.float32), regions.shape)
    return np.array(photo.labels(classes), dtype=np.uint8)[probabilities.argmax(axis=0)]


def stage_counts(
    photo: Photo, stage: str, *, layout: Layout, number: int, classes: Sequence[str], mask_classes: Sequence[str]
) -> Counts | None:
    """Confusion of a stage's mask with the truth, (C + 1, C + 2); None for a photo without a true mask."""
    if photo.mask is None:
        return None
    truth = truth_table(mask_classes, classes)[read_mask(photo.mask)]
    mask = stage_mask(photo, stage, layout=layout, number=number, classes=classes)
    if mask.shape != truth.shape:
        mask = cv2.resize(mask, truth.shape[::-1], interpolation=cv2.INTER_NEAREST)
    return confusion(mask, truth, len(classes) + 1)


@dataclass(frozen=True)
class Quality:
    """A round's quality without pixel labels, each 0..1.

    `consistency`: F1 between the photos' tags and the classes seen when no tags are given. `coverage`: mean share of
    a photo that its masks give to its tags. `agreement`: share of pixels with the label of the round before.
    """

    consistency: float
    coverage: float
    agreement: float


def round_quality(data: TaggedPhotos, layout: Layout, number: int) -> Quality:
    """Quality of round `number` from what its PixelNet wrote; the first round is compared with its own labels."""
    hits = seen_total = tagged = 0
    coverage = agreement = 0.0
    here, before = layout.round(number), layout.round(number - 1)
    for photo in data.photos:
        labels = data.labels(photo)
        seen = set(np.flatnonzero(np.load(here.seen(photo.id)) >= PRESENT)) - {0}
        hits, seen_total, tagged = hits + len(seen & set(labels)), seen_total + len(seen), tagged + len(photo.tags)
        mask = np.load(here.maps(photo.id)).argmax(axis=0)
        coverage += float((mask > 0).mean())
        if number == 1:
            values = cv2.resize(read_mask(here.labels(photo.id)), mask.shape[::-1], interpolation=cv2.INTER_NEAREST)
            known = values != VOID
            agreement += float((np.array(labels)[mask] == values)[known].mean()) if known.any() else 1.0
        else:
            earlier = np.load(before.maps(photo.id)).argmax(axis=0)
            agreement += float((mask == earlier).mean())
    photos = len(data.photos)
    return Quality(2 * hits / max(1, seen_total + tagged), coverage / photos, agreement / photos)
