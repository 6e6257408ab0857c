"""Refinement: the mined regions, corrected by each photo's own evidence.

RegionNet knows what is common to a tag's photos. It paints more than the tag covers, and gives up rare tags and those
that always come with another one. The evidence knows one photo and one tag at a time. Both count: p(label) is
proportional to RegionNet's probability times odds(label) ** weight, the odds being those of the evidence against
background.

Reads superpixels, evidence and regions. Writes round-N/refinement/ID.npy, (R, L) float16: the probability of each of
the photo's labels.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from tagmask import files
from training.datasets.photos import Photo
from training.stages import evidence, regions, superpixels
from training.stages.base import MaskStage, StageId, strongest

MOST = 8.0
"""Log odds beyond which evidence counts no more."""


class RefinementConfig(BaseModel, frozen=True, extra="forbid"):
    """How much the evidence counts beside RegionNet."""

    weight: float = Field(0.5, ge=0, le=2, description="exponent of the odds of each tag; 0: RegionNet alone")


@dataclass(frozen=True)
class Refinement(MaskStage):
    """Refines the regions of a photo."""

    settings: RefinementConfig

    name = "refinement"
    suffix = ".npy"

    @property
    def reads(self) -> tuple[StageId, ...]:
        return (0, "superpixels"), (self.round, "evidence"), (self.round, "regions")

    def run(self, photo: Photo, run: Path, classes: tuple[str, ...], network: Any = None) -> None:
        refined = refine(regions.read(photo, run, self.round), evidence.read(photo, run, self.round), self.settings)
        files.write_array(self.file(photo, run), refined.astype(np.float16))

    def mask(self, photo: Photo, run: Path, classes: tuple[str, ...]) -> np.ndarray:
        return strongest(paint(photo, run, self.round), photo, classes)


def refine(probabilities: np.ndarray, scores: np.ndarray, config: RefinementConfig) -> np.ndarray:
    """RegionNet's `probabilities` (R, L), background first, with the log odds `scores` (R, L - 1): (R, L) float32."""
    odds = np.pad(scores.clip(-MOST, MOST), ((0, 0), (1, 0)))  # (R, L), log odds of background 0
    weighted = (probabilities + 1e-6) * np.exp(config.weight * odds)
    return (weighted / weighted.sum(axis=1, keepdims=True)).astype(np.float32)


def paint(photo: Photo, run: Path, number: int) -> np.ndarray:
    """The refined probabilities of round `number` at each pixel: (L, H, W) float32."""
    probabilities = np.load(Refinement.file_of(photo, run, number)).astype(np.float32)
    return superpixels.paint(probabilities, photo, run)
