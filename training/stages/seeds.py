"""Seeds: the superpixels that are confidently one class or background; the rest is void.

Superpixels with pixels that a person vouches for are seeds of their label.

Reads superpixels and evidence. Writes round-N/seeds/ID.npy, (R,) uint8: the label of each superpixel, 255 = void.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from tagmask import files
from tagmask.masks import VOID
from training.datasets.photos import Photo
from training.stages import evidence, superpixels
from training.stages.base import MaskStage, StageId
from training.stages.pooling import average
from training.stages.vouched import possible_labels, vouched_regions


class SeedsConfig(BaseModel, frozen=True, extra="forbid"):
    """When a label is confident."""

    object_above: float = Field(0.6, ge=0, le=1, description="probability of a tag, share of the photo's greatest")
    background_below: float = Field(0.1, ge=0, le=1, description="the same, for every tag")


@dataclass(frozen=True)
class Seeds(MaskStage):
    """Chooses the seeds of a photo."""

    settings: SeedsConfig

    name = "seeds"
    suffix = ".npy"
    sparse = True

    @property
    def reads(self) -> tuple[StageId, ...]:
        return (0, "superpixels"), (self.round, "evidence")

    def run(self, photo: Photo, run: Path, classes: tuple[str, ...], network: Any = None) -> None:
        labels = photo.labels(classes)
        chosen = choose(evidence.read(photo, run, self.round), self.settings)
        seeds = np.where(chosen < 0, VOID, np.array(labels)[chosen]).astype(np.uint8)
        files.write_array(self.file(photo, run), correct(seeds, photo, classes, run))

    def mask(self, photo: Photo, run: Path, classes: tuple[str, ...]) -> np.ndarray:
        return read(photo, run, self.round)[superpixels.read(photo, run)]


def choose(scores: np.ndarray, config: SeedsConfig) -> np.ndarray:
    """Seeds: (R,) int, a position among the photo's labels (background first), -1 for void.

    `scores` (R, L - 1) log odds of each tag. Probabilities are relative to the tag's surest superpixel in the photo, so
    each tag has a seed unless others are surer everywhere. All of a photo without tags is background.
    """
    if not scores.size:
        return np.zeros(len(scores), dtype=np.int64)
    probabilities = 1 / (1 + np.exp(-scores))
    strength = probabilities / probabilities.max(axis=0)
    sure = np.where(strength.max(axis=1) >= config.object_above, strength.argmax(axis=1) + 1, -1)
    return np.where(strength.max(axis=1) < config.background_below, 0, sure)


def correct(seeds: np.ndarray, photo: Photo, classes: tuple[str, ...], run: Path) -> np.ndarray:
    """`seeds` (R,) uint8, changed to what the photo's correction says, if it has one.

    A superpixel with vouched pixels gets their label, or void if they have several; one whose label is not possible
    becomes void.
    """
    if photo.correction is None:
        return seeds
    regions = superpixels.read(photo, run)
    possible = possible_labels(photo, classes, regions.shape)
    assert possible is not None
    labels = np.array(photo.labels(classes))
    ruled_out = average(possible, regions) == 0  # (R, L)
    corrected = np.where((ruled_out & (seeds[:, None] == labels)).any(axis=1), VOID, seeds)
    vouched, said = vouched_regions(photo, classes, regions)
    return np.where(said, vouched, corrected).astype(np.uint8)


def read(photo: Photo, run: Path, number: int) -> np.ndarray:
    """The label of each superpixel: (R,) uint8, 255 = void."""
    return np.load(Seeds.file_of(photo, run, number))
