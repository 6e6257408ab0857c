"""Regions: RegionNet relabels every superpixel, among background and the photo's own tags.

Reads superpixels, RegionNet, and superpixel features of the localization before. Writes round-N/regions/ID.npy,
(R, L) float16: the probability of each of the photo's labels.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tagmask import files
from training.datasets.photos import Photo
from training.stages import superpixels
from training.stages.base import MaskStage, StageId, strongest
from training.stages.localization import features_file, localization_id
from training.stages.regionnet import RegionNetTraining


@dataclass(frozen=True)
class Regions(MaskStage):
    """Relabels the superpixels of a photo."""

    name = "regions"
    suffix = ".npy"
    needs_torch = True

    @property
    def reads(self) -> tuple[StageId, ...]:
        return (self.round, "regionnet"), localization_id(self.round - 1)

    def load(self, run: Path, device: str) -> Any:
        from training.networks.regionnet import RegionNet

        return RegionNet.load(RegionNetTraining.weights_of(run, self.round)).to(device)

    def run(self, photo: Photo, run: Path, classes: tuple[str, ...], network: Any = None) -> None:
        features = np.load(features_file(photo, run, self.round - 1))
        probabilities = network.probabilities(features, photo.labels(classes))  # (R, L)
        files.write_array(self.file(photo, run), probabilities.astype(np.float16))

    def mask(self, photo: Photo, run: Path, classes: tuple[str, ...]) -> np.ndarray:
        return strongest(paint(photo, run, self.round), photo, classes)


def read(photo: Photo, run: Path, number: int) -> np.ndarray:
    """RegionNet's probabilities of each of the photo's labels: (R, L) float32."""
    return np.load(Regions.file_of(photo, run, number)).astype(np.float32)


def paint(photo: Photo, run: Path, number: int) -> np.ndarray:
    """RegionNet's probabilities at each pixel: (L, H, W) float32."""
    return superpixels.paint(read(photo, run, number), photo, run)
