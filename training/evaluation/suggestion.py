"""Photos of a finished run to correct first: those that are typical of many photos with doubtful masks.

The doubt about a class in a photo, 0..1, has two parts of equal weight: how far its expected IoU, by PixelNet's own
probabilities, is below 1 (see `tagmask.expected_iou`), and how far the IoU of PixelNet's mask and of the labels that
taught it is. The doubt about a photo is the mean over its tags. A photo is covered as far as the chosen or corrected
photo that is most like it, by the cosine of their mean features, scaled to unit variance. Photos are chosen one by one:
each time the one that covers most of the doubt that is left. So few photos are typical ones, which teach more than odd
ones do (Hacohen, Dekel and Weinshall, "Active learning on a budget: opposite strategies suit high and low budgets",
ICML 2022), and of all kinds of doubtful photos.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tagmask.expected_iou import expected_ious
from tagmask.masks import VOID
from tagmask.progress import Advance, silent
from training.datasets.photos import Photo, TaggedPhotos
from training.evaluation.run_files import run_files
from training.stages import labels
from training.stages.localization import mean_features, read_maps
from training.stages.masks import full_mask

ASKED = 1000
"""Photos at most whose doubt is to be covered, evenly spread."""


@dataclass(frozen=True)
class ClassDoubt:
    """What speaks for the mask of a class in a photo, each 0..1.

    `expected_iou` is by the probabilities of its pixels, `agreement` the IoU with the labels that it was taught.
    """

    expected_iou: float
    agreement: float

    @property
    def doubt(self) -> float:
        return 1 - (self.expected_iou + self.agreement) / 2


@dataclass(frozen=True)
class Suggestion:
    """A photo to correct, and what is known of each of its tags."""

    photo: Photo
    classes: Mapping[str, ClassDoubt]

    @property
    def doubt(self) -> float:
        """The mean over its tags, 0..1."""
        return fmean(each.doubt for each in self.classes.values())

    def to_json(self) -> dict[str, Any]:
        """Its fields as JSON values; `photo` is the id."""
        return {
            "photo": self.photo.id,
            "path": str(self.photo.path),
            "tags": list(self.photo.tags),
            "doubt": round(self.doubt, 4),
            "classes": {
                name: {"expected_iou": round(each.expected_iou, 4), "agreement": round(each.agreement, 4)}
                for name, each in self.classes.items()
            },
        }


def suggest(
    data: TaggedPhotos,
    run: Path,
    number: int,
    count: int,
    *,
    corrected: Collection[str] = (),
    advance: Advance = silent,
) -> list[Suggestion]:
    """At most `count` of the tagged photos of `data`, by round `number` of a `run`; the first to correct come first.

    Those with a correction, and those whose ids are `corrected`, are left out. `advance(1)` follows each photo. Raises
    RunError if a file of the run is missing or damaged.
    """
    photos = [photo for photo in data.photos if photo.tags]
    suggestions: dict[int, Suggestion] = {}
    features = []
    for place, photo in enumerate(photos):
        with run_files(run, photo):
            features.append(mean_features(photo, run, number))
            if photo.correction is None and photo.id not in corrected:
                suggestions[place] = Suggestion(photo, _class_doubts(photo, run, number, data.classes))
        advance(1)
    doubts = [suggestions[place].doubt if place in suggestions else np.nan for place in range(len(photos))]
    return [suggestions[place] for place in choose(np.array(doubts), np.array(features), count)]


def choose(doubts: NDArray[np.float64], features: NDArray[np.float32], count: int) -> list[int]:
    """The places of at most `count` of N photos, in the order in which they are chosen.

    `doubts` (N,) 0..1, NaN for a photo that is corrected already; `features` (N, F).
    """
    scaled = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-6)
    scaled /= np.linalg.norm(scaled, axis=1, keepdims=True) + 1e-6
    uncorrected = np.flatnonzero(~np.isnan(doubts))
    asked = uncorrected[np.linspace(0, len(uncorrected) - 1, min(ASKED, len(uncorrected)), dtype=int)]
    likeness = (scaled @ scaled[asked].T).clip(0)  # (N, A)
    covered = likeness[np.isnan(doubts)].max(axis=0, initial=0)  # (A,)
    left = uncorrected[np.argsort(-doubts[uncorrected], kind="stable")]  # of equals, the most doubtful is taken
    chosen = list[int]()
    while len(chosen) < count and len(left):
        gains = (likeness[left] - covered).clip(0) @ doubts[asked]
        chosen.append(int(left[np.argmax(gains)]))
        left = left[left != chosen[-1]]
        covered = np.maximum(covered, likeness[chosen[-1]])
    return chosen


def _class_doubts(photo: Photo, run: Path, number: int, classes: Sequence[str]) -> dict[str, ClassDoubt]:
    maps = read_maps(photo, run, number)
    own = photo.labels(classes)
    expected = dict(zip(own, expected_ious(maps, maps.argmax(axis=0).astype(np.uint8)), strict=True))
    taught = labels.read(photo, run, number)
    mask = full_mask(photo, run, number, tuple(classes))
    return {
        classes[label - 1]: ClassDoubt(float(expected[label]), _iou(mask == label, taught == label, taught != VOID))
        for label in own[1:]
    }


def _iou(first: NDArray[np.bool_], second: NDArray[np.bool_], labelled: NDArray[np.bool_]) -> float:
    """The IoU of two areas, 0..1, among the pixels `labelled`; 0 if there are none of either."""
    return float((first & second).sum() / max(1, ((first | second) & labelled).sum()))
