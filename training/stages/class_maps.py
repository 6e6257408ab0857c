"""Class maps: where each tag is, by the tag classifier; their pass also computes the features of superpixels.

Reads superpixels and the tag classifier. Writes class_maps/maps and class_maps/features, see `localization`; the maps
are the raw scores of the photo's tags.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from training.datasets.photos import Photo
from training.stages import superpixels
from training.stages.base import strongest
from training.stages.classifier import ClassifierTraining
from training.stages.localization import Localization, read_maps
from training.stages.pooling import pool_weights

if TYPE_CHECKING:
    from torch import Tensor

BACKGROUND = 0.3
"""Share of its maximum below which a class map counts as background, where it is shown as a mask."""


@dataclass(frozen=True)
class ClassMaps(Localization):
    """Localizes by the tag classifier."""

    name = "class_maps"
    reads = (0, "superpixels"), (0, "classifier")

    def load(self, run: Path, device: str) -> Any:
        from training.networks.classifier import TagClassifier

        return TagClassifier.load(ClassifierTraining.weights_of(run), self.backbone).to(device)

    def maps(self, scores: "Tensor", photo: Photo, run: Path, classes: tuple[str, ...]) -> "Tensor":
        return scores[[label - 1 for label in photo.labels(classes)[1:]]]

    def mask(self, photo: Photo, run: Path, classes: tuple[str, ...]) -> np.ndarray:
        return strongest(label_strengths(photo, run), photo, classes)

    def picture(self, photo: Photo, pixels: np.ndarray, run: Path) -> np.ndarray:
        """The strongest class at each pixel as a heat map."""
        heat = (label_strengths(photo, run)[1:].max(axis=0, initial=0) * 255).astype(np.uint8)
        colours = cv2.applyColorMap(heat, cv2.COLORMAP_JET)[..., ::-1]
        return (0.5 * pixels + 0.5 * colours).astype(np.uint8)


def region_scores(photo: Photo, run: Path, regions: np.ndarray) -> np.ndarray:
    """Mean class maps of each superpixel: (R, K) float32, raw scores of the photo's tags."""
    maps = read_maps(photo, run, 0)  # (K, h, w)
    weights = pool_weights(regions, *maps.shape[1:])  # (R, h * w)
    return weights @ maps.reshape(len(maps), weights.shape[1]).T


def relative(scores: np.ndarray) -> np.ndarray:
    """Class maps (R, K) cut at 0 and divided by their greatest superpixel: (R, K), 0..1."""
    strength = np.maximum(scores, 0)
    return strength / np.maximum(strength.max(axis=0, keepdims=True), 1e-6)


def label_strengths(photo: Photo, run: Path) -> np.ndarray:
    """Relative class maps by superpixel, after a constant for background: (L, H, W) float32, 0..1.

    Only for display and measurement; seeds have thresholds of their own.
    """
    regions = superpixels.read(photo, run)
    strength = relative(region_scores(photo, run, regions))  # (R, K)
    background = np.full((len(strength), 1), BACKGROUND, dtype=np.float32)
    labels = np.concatenate([background, strength], axis=1)  # (R, L)
    return labels[regions].transpose(2, 0, 1)
