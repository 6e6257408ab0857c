"""Refinement: the mined regions of photos with one tag, corrected by saliency in Bayes form; first round only.

p(obj|v) = p(obj) p(v|obj) / (p(obj) p(v|obj) + p(bg) p(v|bg)), prior = saliency, likelihoods = Lab colour histograms
inside and outside the mined regions (Wang et al., CVPR 2018, section 3.4; the histogram form after Xie, Lu and Yang,
"Bayesian Saliency via Low and Mid Level Cues", TIP 2013).

Reads superpixels, saliency and regions. Writes round-1/refinement/ID.png, 8-bit probability of the object; nothing for
photos with several tags, whose regions stay as they are.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from pydantic import BaseModel, Field

from tagmask import files
from tagmask.photos import read_photo
from training.datasets.photos import Photo
from training.stages import regions, saliency
from training.stages.base import MaskStage, StageId, strongest


class RefinementConfig(BaseModel, frozen=True, extra="forbid"):
    """How much saliency counts in the first round."""

    bins: int = Field(12, ge=2, le=64, description="histogram bins per Lab channel")
    weight: float = Field(0.5, ge=0, le=1, description="share of the Bayes posterior; the rest is RegionNet's own")


@dataclass(frozen=True)
class Refinement(MaskStage):
    """Refines the regions of a photo that has one tag."""

    long_side: int
    settings: RefinementConfig

    name = "refinement"
    first_round_only = True

    @property
    def reads(self) -> tuple[StageId, ...]:
        return (0, "superpixels"), (0, "saliency"), (self.round, "regions")

    def run(self, photo: Photo, run: Path, classes: tuple[str, ...], network: Any = None) -> None:
        if len(photo.tags) != 1:
            return
        pixels, painted = read_photo(photo.path, self.long_side), regions.paint(photo, run, self.round)
        probabilities = refine(pixels, painted, saliency.read(photo, run), self.settings)
        files.write_png(self.file(photo, run), Image.fromarray((probabilities[1] * 255).round().astype(np.uint8)))

    def mask(self, photo: Photo, run: Path, classes: tuple[str, ...]) -> np.ndarray:
        return strongest(refined_regions(photo, run, self.round), photo, classes)


def object_posterior(photo: np.ndarray, inside: np.ndarray, saliency: np.ndarray, bins: int) -> np.ndarray:
    """p(obj|v) at each pixel: (H, W) float32, 0..1.

    `photo` (H, W, 3) uint8 RGB; `inside` (H, W) float, probability 0..1 that a pixel lies in the mined regions, which
    weights it in the two histograms; `saliency` (H, W) float 0..1.
    """
    lab = cv2.cvtColor(photo, cv2.COLOR_RGB2LAB).astype(np.int64)
    low = lab.min(axis=(0, 1))
    steps = np.maximum((lab.max(axis=(0, 1)) - low + 1) / bins, 1e-6)
    binned = ((lab - low) / steps).astype(np.int64)  # (H, W, 3), 0..bins-1
    likelihood = np.ones((2, *inside.shape))
    for weights, row in ((inside, 0), (1 - inside, 1)):
        for channel in range(3):
            histogram = np.bincount(binned[..., channel].reshape(-1), weights=weights.reshape(-1), minlength=bins)
            likelihood[row] *= ((histogram + 1) / (histogram.sum() + bins))[binned[..., channel]]
    prior = saliency.clip(0.02, 0.98)
    joint = prior * likelihood[0]
    return (joint / (joint + (1 - prior) * likelihood[1])).astype(np.float32)


def refine(photo: np.ndarray, probabilities: np.ndarray, saliency: np.ndarray, config: RefinementConfig) -> np.ndarray:
    """Refine a single-tag photo's `probabilities`, (2, H, W) of background and object: (2, H, W) float32."""
    posterior = object_posterior(photo, probabilities[1], saliency, config.bins)
    refined = (1 - config.weight) * probabilities[1] + config.weight * posterior
    return np.stack([1 - refined, refined]).astype(np.float32)


def refined_regions(photo: Photo, run: Path, number: int) -> np.ndarray:
    """The refined probabilities, or RegionNet's where nothing was refined: (L, H, W) float32."""
    path = Refinement.file_of(photo, run, number)
    if not path.is_file():
        return regions.paint(photo, run, number)
    refined = np.array(files.read_png(path), dtype=np.float32) / 255  # (H, W)
    return np.stack([1 - refined, refined])
