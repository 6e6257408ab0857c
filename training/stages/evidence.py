"""Evidence: how far each superpixel speaks for each of the photo's tags; what the first round starts from.

The score of the region tagger, and in Bayes form as much of saliency as agrees with such scores over all photos; see
`training.fitting.evidence_odds`.

Reads superpixels, saliency, the region tagger, and superpixel features of the class maps. Writes evidence/ID.npy,
(R, L - 1) float16: the log odds of each tag.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tagmask import files
from training.datasets.photos import Photo
from training.evaluation.estimate import SignCounter
from training.fitting.evidence_odds import level
from training.stages import superpixels
from training.stages.base import MaskStage, strongest
from training.stages.localization import localization_id
from training.stages.pooling import label_shares
from training.stages.regiontagger import RegionTaggerTraining, read_odds, score_regions


@dataclass(frozen=True)
class Evidence(MaskStage):
    """Writes the evidence for a photo's tags."""

    name = "evidence"
    suffix = ".npy"
    needs_torch = True
    reads = (0, "superpixels"), (0, "saliency"), (0, "regiontagger"), localization_id(0)

    def load(self, run: Path, device: str) -> Any:
        from training.networks.regiontagger import RegionTagger

        return RegionTagger.load(RegionTaggerTraining.weights_of(run)).to(device)

    def run(self, photo: Photo, run: Path, classes: tuple[str, ...], network: Any = None) -> None:
        offsets, saliency_odds = read_odds(run)
        regions = score_regions(network, photo, run, classes, offsets)
        odds = regions.scores + saliency_odds[level(regions.saliency)][:, None]
        files.write_array(self.file(photo, run), odds.astype(np.float16))

    def mask(self, photo: Photo, run: Path, classes: tuple[str, ...]) -> np.ndarray:
        labels = np.pad(read(photo, run), ((0, 0), (1, 0)))  # (R, L), log odds of background 0
        return strongest(labels.T, photo, classes)[superpixels.read(photo, run)]


def add_signs(signs: SignCounter, photo: Photo, run: Path, classes: tuple[str, ...], mask: np.ndarray) -> None:
    """Add the signs of `mask`, (H, W) uint8 labels of a photo, 255 void, at the size of its superpixels."""
    regions = superpixels.read(photo, run)
    shares = label_shares(mask, regions, len(classes) + 1)
    signs.add(photo.labels(classes), np.bincount(regions.reshape(-1)), read(photo, run), shares)


def read(photo: Photo, run: Path) -> np.ndarray:
    """Log odds of each of the photo's tags: (R, L - 1) float32."""
    return np.load(Evidence.file_of(photo, run)).astype(np.float32)
