"""Evidence: how far each superpixel speaks for each of the photo's tags; what a round starts from.

In Bayes form, the sum of the log odds of what is known of a superpixel: the score of the region tagger; as much of
saliency, and of hints, as agrees with such scores over all photos, see `training.fitting.evidence_odds`. From the
second round on, the masks of the round before are added, and all else counts the less, the more photos these were
learned from: masks of few photos repeat their faults in every round, unless the tags speak anew in each.

Reads superpixels, saliency, the region tagger, and superpixel features, in later rounds also maps, of the localization
before. Writes round-N/evidence/ID.npy, (R, L - 1) float16: the log odds of each tag.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tagmask import files
from training.datasets.photos import Photo, TaggedPhotos
from training.evaluation.agreement import LEAST
from training.evaluation.estimate import SignCounter
from training.fitting.evidence_odds import EvidenceOdds, level
from training.stages import superpixels
from training.stages.base import MaskStage, StageId, strongest
from training.stages.doubts import read_doubts
from training.stages.hint_evidence import hint_evidence
from training.stages.localization import localization_id, read_maps, resize_maps
from training.stages.pooling import average, label_shares
from training.stages.regiontagger import read_odds, score_regions, weights_file

UNLIKELY = 1e-4
"""Least probability of a mask, so that it is never certain."""


@dataclass(frozen=True)
class Evidence(MaskStage):
    """Writes the evidence for a photo's tags."""

    name = "evidence"
    suffix = ".npy"
    needs_torch = True

    @property
    def reads(self) -> tuple[StageId, ...]:
        before = localization_id(self.round - 1)
        return (0, "superpixels"), (0, "saliency"), (self.round, "regiontagger"), before

    def load(self, run: Path, device: str) -> Any:
        from training.networks.regiontagger import RegionTagger

        contrast = weights_file(run, self.round, contrast=True).is_file()
        network = RegionTagger.load(weights_file(run, self.round, contrast))
        network.contrast = contrast
        return network.to(device)

    def begin(self, data: TaggedPhotos, run: Path) -> dict[str, Any]:
        """{"object_share": share of photos that shows their tags, 0..1, "border_share": the same of their borders at
        first, "saliency_agreement": how far saliency agrees with the tags' scores, 0..1, "hint_agreement": the same of
        the hints for each class, "doubts": tags in doubt}.
        """
        odds = read_odds(run, self.round)
        return {
            "object_share": odds.object_share,
            "border_share": odds.border_share,
            "saliency_agreement": odds.agreement,
            "hint_agreement": {name: hint.agreement for name, hint in odds.hints.items() if hint.agreement is not None},
            "doubts": len(read_doubts(run, self.round)),
        }

    def run(self, photo: Photo, run: Path, classes: tuple[str, ...], network: Any = None) -> None:
        known = read_odds(run, self.round)
        regions = score_regions(network, photo, run, self.round, classes, np.array(known.offsets))
        odds = regions.scores + np.array(known.saliency)[level(regions.saliency)][:, None]
        for hint in hint_evidence(photo, run, classes, regions):
            said = known.hints.get(hint.name)
            if said is not None and (said.agreement or 0) >= LEAST:
                odds[:, hint.places] += np.array(said.odds)[level(hint.regions.saliency)][:, None]
        if self.round > 1:
            odds *= _weights(known, photo, classes)
            odds += mask_odds(read_maps(photo, run, self.round - 1), superpixels.read(photo, run))
        files.write_array(self.file(photo, run), odds.astype(np.float16))

    def mask(self, photo: Photo, run: Path, classes: tuple[str, ...]) -> np.ndarray:
        labels = np.pad(read(photo, run, self.round), ((0, 0), (1, 0)))  # (R, L), log odds of background 0
        return strongest(labels.T, photo, classes)[superpixels.read(photo, run)]


def mask_odds(maps: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Log odds of each tag against background by PixelNet, (R, L - 1) float32.

    `maps` (L, h, w) probabilities, background first; `regions` (H, W) the superpixel of each pixel.
    """
    probabilities = average(resize_maps(maps, regions.shape), regions)  # (R, L)
    logs = np.log(probabilities.clip(UNLIKELY))
    return logs[:, 1:] - logs[:, :1]


def add_signs(
    signs: SignCounter, photo: Photo, run: Path, number: int, classes: tuple[str, ...], mask: np.ndarray
) -> None:
    """Add the signs of `mask`, (H, W) uint8 labels of a photo, 255 void, at the size of its superpixels.

    They are read off the evidence of round `number`, without what the masks before say, as they would agree with
    themselves.
    """
    regions, odds = superpixels.read(photo, run), read(photo, run, number)
    if number > 1:
        masks = mask_odds(read_maps(photo, run, number - 1), regions)
        odds = (odds - masks) / _weights(read_odds(run, number), photo, classes)
    shares = label_shares(mask, regions, len(classes) + 1)
    signs.add(photo.labels(classes), np.bincount(regions.reshape(-1)), odds, shares)


def _weights(odds: EvidenceOdds, photo: Photo, classes: tuple[str, ...]) -> np.ndarray:
    """How much the evidence of each of the photo's tags counts beside masks: (L - 1,)."""
    weights = np.array(odds.weights or [1.0] * len(classes))
    return weights[[label - 1 for label in photo.labels(classes)[1:]]]


def read(photo: Photo, run: Path, number: int) -> np.ndarray:
    """Log odds of each of the photo's tags in round `number`: (R, L - 1) float32."""
    return np.load(Evidence.file_of(photo, run, number)).astype(np.float32)
