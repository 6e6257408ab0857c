"""Labels: what PixelNet is trained on, by DenseCRF over the refined regions; unsure pixels are void.

Pixels that a person vouches for keep their label.

Reads superpixels and refined regions. Writes round-N/labels/ID.png, a palette mask.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from tagmask.crf import CrfConfig, dense_crf
from tagmask.masks import VOID, read_mask, write_mask
from tagmask.photos import read_photo
from training.datasets.photos import Photo
from training.stages import refinement
from training.stages.base import MaskStage, StageId, strongest
from training.stages.vouched import limit, possible_labels


class LabelsConfig(BaseModel, frozen=True, extra="forbid"):
    """What DenseCRF may take away; its own settings are `crf`, shared with serving."""

    sure_above: float = Field(0.9, ge=0, lt=1, description="pixels whose label has a lower probability are void")
    restore_below: float = Field(
        0.1, ge=0, le=1, description="a tag that is left with a smaller part of its pixels gets all of them back"
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
        return (0, "superpixels"), (self.round, "refinement")

    def run(self, photo: Photo, run: Path, classes: tuple[str, ...], network: Any = None) -> None:
        pixels = read_photo(photo.path, self.long_side)
        probabilities = refinement.paint(photo, run, self.round)  # (L, H, W)
        possible = possible_labels(photo, classes, probabilities.shape[1:])
        probabilities = limit(probabilities, possible)
        regions = strongest(probabilities, photo, classes)
        if photo.tags:
            probabilities = limit(dense_crf(pixels, probabilities, self.crf), possible)
        mask = strongest(probabilities, photo, classes)
        mask[probabilities.max(axis=0) < self.settings.sure_above] = VOID
        write_mask(self.file(photo, run), restore(mask, regions, self.settings.restore_below))

    def mask(self, photo: Photo, run: Path, classes: tuple[str, ...]) -> np.ndarray:
        return read(photo, run, self.round)


def restore(mask: np.ndarray, regions: np.ndarray, below: float) -> np.ndarray:
    """Give tags that DenseCRF has wiped out their pixels back; to it, small and thin things look like noise.

    `mask` and `regions` are (H, W) uint8 labels after and before it, 0 background, 255 void. A label comes back if
    `mask` has less than the part `below` (0..1) of its pixels in `regions`.
    """
    restored = mask.copy()
    for label in np.setdiff1d(regions, (0, VOID)):
        had = regions == label
        if (mask == label).sum() < below * had.sum():
            restored[had] = label
    return restored


def read(photo: Photo, run: Path, number: int) -> np.ndarray:
    """The labels of a photo: (H, W) uint8, 255 = void."""
    return read_mask(Labels.file_of(photo, run, number))
