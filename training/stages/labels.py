"""Labels: what PixelNet is trained on, by DenseCRF over the refined regions; unsure pixels are void.

Pixels that a person vouches for keep their label.

DenseCRF sees only colours. What is small, thin or as bright as its surroundings looks like noise to it, so what it
takes from a tag is given back where it does not follow the tag's evidence; see `restore`.

Reads superpixels, evidence and refined regions. Writes round-N/labels/ID.png, a palette mask.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from tagmask.crf import CrfConfig, dense_crf
from tagmask.masks import VOID, read_mask, write_mask
from tagmask.photos import read_photo
from training.datasets.photos import Photo
from training.stages import evidence, refinement, superpixels
from training.stages.base import MaskStage, StageId, strongest
from training.stages.refinement import MOST
from training.stages.vouched import limit, possible_labels


class LabelsConfig(BaseModel, frozen=True, extra="forbid"):
    """What DenseCRF may take away; its own settings are `crf`, shared with serving."""

    sure_above: float = Field(0.9, ge=0, lt=1, description="pixels whose label has a lower probability are void")
    restore_below: float = Field(
        0.1, ge=0, le=1, description="a tag that is left with a smaller part of its pixels gets all of them back"
    )
    restore_above: float = Field(
        0.9,
        ge=0,
        allow_inf_nan=False,
        description="ratio of lost evidence to lost pixels, each as a part of the tag's, above which it gets them back",
    )


@dataclass(frozen=True)
class Labels(MaskStage):
    """Writes the training labels of a photo."""

    long_side: int
    crf: CrfConfig
    settings: LabelsConfig

    name = "labels"

    @property
    def reads(self) -> tuple[StageId, ...]:
        return (0, "superpixels"), (self.round, "evidence"), (self.round, "refinement")

    def run(self, photo: Photo, run: Path, classes: tuple[str, ...], network: Any = None) -> None:
        pixels = read_photo(photo.path, self.long_side)
        of_pixels = superpixels.read_for(pixels, photo, run)  # (H, W)
        probabilities = refinement.paint(photo, run, self.round)  # (L, H, W)
        possible = possible_labels(photo, classes, probabilities.shape[1:])
        probabilities = limit(probabilities, possible)
        regions = strongest(probabilities, photo, classes)
        if photo.tags:
            probabilities = limit(dense_crf(pixels, probabilities, self.crf), possible)
        mask = strongest(probabilities, photo, classes)
        mask[probabilities.max(axis=0) < self.settings.sure_above] = VOID
        odds = evidence.read(photo, run, self.round)[of_pixels].transpose(2, 0, 1)  # (L - 1, H, W)
        restored = restore(mask, regions, dict(zip(photo.labels(classes)[1:], odds, strict=True)), self.settings)
        write_mask(self.file(photo, run), restored)

    def mask(self, photo: Photo, run: Path, classes: tuple[str, ...]) -> np.ndarray:
        return read(photo, run, self.round)


def restore(
    mask: np.ndarray, regions: np.ndarray, odds: Mapping[int, np.ndarray], settings: LabelsConfig
) -> np.ndarray:
    """Give tags back the pixels that DenseCRF took from them without reason: (H, W) uint8 labels.

    `mask` and `regions` are (H, W) uint8 labels after and before it, 0 background, 255 void; `odds` has the log odds of
    each tag at each pixel, (H, W), by its label. A tag of which `mask` leaves less than the part `restore_below` gets
    all of `regions` back. Another one gets back what became background or void, if it lost strong pixels as readily as
    weak ones: if the part of its evidence (the sum of its positive log odds) that was lost is above `restore_above`
    times the part of its pixels that was lost.
    """
    restored = mask.copy()
    for label, scores in odds.items():
        had, strength = regions == label, scores.clip(0, MOST)
        lost = had & (mask != label)
        if (mask == label).sum() < settings.restore_below * had.sum():
            restored[had] = label
        elif strength[lost].sum() * had.sum() > settings.restore_above * lost.sum() * strength[had].sum():
            restored[lost & np.isin(mask, (0, VOID))] = label
    return restored


def read(photo: Photo, run: Path, number: int) -> np.ndarray:
    """The labels of a photo: (H, W) uint8, 255 = void."""
    return read_mask(Labels.file_of(photo, run, number))
