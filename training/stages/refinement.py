"""Refinement: the mined regions, corrected by each photo's own evidence and colours.

RegionNet knows what is common to a tag's photos. It paints more than the tag covers, and gives up rare tags and those
that always come with another one. The evidence knows one photo and one tag at a time, and of a thing only what is
typical of it. The colours of a photo tell which of its superpixels belong together. All count: p(label) is proportional
to RegionNet's probability times odds(label) ** weight, the odds being those of the evidence against background, and
then to p(colour | label).

Reads superpixels, superpixel features of the localization before, evidence and regions. Writes
round-N/refinement/ID.npy, (R, L) float16: the probability of each of the photo's labels.
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
from training.stages.localization import features_file, localization_id, region_colours

MOST = 8.0
"""Log odds beyond which evidence counts no more."""

SPREAD = 20.0
"""How far colours that look alike differ, in Lab units of 8 bits: the deviation of a normal density."""

SMOOTHING = 0.01
"""Probability that is added to that of each label, so that a label of few pixels has colours, too."""

RAREST = 0.001
"""Added to each density, so that a colour that no other superpixel has says nothing."""

LARGEST = 3.0
"""Log odds beyond which a colour counts no more."""


class RefinementConfig(BaseModel, frozen=True, extra="forbid"):
    """How much the evidence counts beside RegionNet, and the colours of the photo beside both."""

    weight: float = Field(0.4, ge=0, le=2, description="exponent of the odds of each tag; 0: RegionNet alone")
    colours: float = Field(1, ge=0, le=4, description="exponent of the odds of each superpixel's colour; 0: none")


@dataclass(frozen=True)
class Refinement(MaskStage):
    """Refines the regions of a photo."""

    settings: RefinementConfig

    name = "refinement"
    suffix = ".npy"

    @property
    def reads(self) -> tuple[StageId, ...]:
        before = localization_id(self.round - 1)
        return (0, "superpixels"), before, (self.round, "evidence"), (self.round, "regions")

    def run(self, photo: Photo, run: Path, classes: tuple[str, ...], network: Any = None) -> None:
        refined = refine(regions.read(photo, run, self.round), evidence.read(photo, run, self.round), self.settings)
        colours = region_colours(np.load(features_file(photo, run, self.round - 1), mmap_mode="r"))
        area = np.bincount(superpixels.read(photo, run).reshape(-1))
        refined = follow_colours(refined, colours, area, self.settings)
        files.write_array(self.file(photo, run), refined.astype(np.float16))

    def mask(self, photo: Photo, run: Path, classes: tuple[str, ...]) -> np.ndarray:
        return strongest(paint(photo, run, self.round), photo, classes)


def refine(probabilities: np.ndarray, scores: np.ndarray, config: RefinementConfig) -> np.ndarray:
    """RegionNet's `probabilities` (R, L), background first, with the log odds `scores` (R, L - 1): (R, L) float32."""
    odds = np.pad(scores.clip(-MOST, MOST), ((0, 0), (1, 0)))  # (R, L), log odds of background 0
    return _multiply(probabilities, config.weight * odds)


def follow_colours(
    probabilities: np.ndarray, colours: np.ndarray, area: np.ndarray, config: RefinementConfig
) -> np.ndarray:
    """`probabilities` (R, L) of superpixels, corrected by what colours the photo's labels have: (R, L) float32.

    `colours` (R, 3) are in Lab units of 8 bits, `area` (R,) in pixels. For each superpixel, the density of a label's
    colours is estimated from all others, each as far as it has the label, by normal densities around their colours.
    GrabCut uses mixtures of them (Rother, Kolmogorov and Blake, SIGGRAPH 2004).
    """
    from scipy.spatial.distance import cdist

    kernel = np.exp(cdist(colours, colours, "sqeuclidean") / (-2 * SPREAD**2))  # (R, R)
    np.fill_diagonal(kernel, 0)
    pixels = (probabilities + SMOOTHING) * area[:, None]  # (R, L)
    density = kernel @ pixels / (pixels.sum(axis=0) - pixels).clip(1e-9) + RAREST  # (R, L)
    odds = np.log(density / density[:, :1]).clip(-LARGEST, LARGEST)
    return _multiply(probabilities, config.colours * odds)


def _multiply(probabilities: np.ndarray, log_odds: np.ndarray) -> np.ndarray:
    """`probabilities` (R, L) times the odds whose logs are `log_odds` (R, L), summing to 1 again: (R, L) float32."""
    weighted = (probabilities + 1e-6) * np.exp(log_odds)
    return (weighted / weighted.sum(axis=1, keepdims=True)).astype(np.float32)


def paint(photo: Photo, run: Path, number: int) -> np.ndarray:
    """The refined probabilities of round `number` at each pixel: (L, H, W) float32."""
    probabilities = np.load(Refinement.file_of(photo, run, number)).astype(np.float32)
    return superpixels.paint(probabilities, photo, run)
