"""Masks: PixelNet's probabilities of each photo's tags; what the next round starts from.

Reads superpixels and PixelNet. Writes to round-N/masks: maps and features, see `localization`, the maps being
probabilities of background and the photo's tags that sum to 1, each tag being somewhere in the photo (see
`least_areas`), and

    seen/ID.npy       (labels,) float32: share of pixels of each label in the mask without tags
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tagmask import files
from tagmask.tag_weights import raise_given
from training.datasets.photos import Photo
from training.stages import least_areas, superpixels
from training.stages.base import StageId, folder, strongest
from training.stages.localization import Localization, maps_file, read_maps, resize_maps

if TYPE_CHECKING:
    from torch import Tensor

PRESENT = 0.01
"""A class counts as seen in a photo from this share of its pixels."""


@dataclass(frozen=True)
class Masks(Localization):
    """Localizes by PixelNet."""

    name = "masks"

    @property
    def reads(self) -> tuple[StageId, ...]:
        return (0, "superpixels"), (self.round, "pixelnet")

    def load(self, run: Path, device: str) -> Any:
        from training.networks.pixelnet import PixelNet
        from training.stages.pixelnet import PixelNetTraining  # which reads masks

        return PixelNet.load(PixelNetTraining.weights_of(run, self.round), self.backbone).to(device)

    def maps(self, scores: "Tensor", photo: Photo, run: Path, classes: tuple[str, ...]) -> "Tensor":
        pixels = scores.argmax(dim=0).flatten().bincount(minlength=len(scores)).float()  # (labels,)
        files.write_array(seen_file(photo, run, self.round), (pixels / pixels.sum()).cpu().numpy())
        own = photo.labels(classes)
        probabilities = scores[list(own)].float().softmax(dim=0)  # (L, h, w)
        areas = least_areas.read(run, self.round)
        if areas is None:
            return probabilities
        return probabilities.new_tensor(raise_given(probabilities.cpu().numpy(), own, areas))

    def mask(self, photo: Photo, run: Path, classes: tuple[str, ...]) -> np.ndarray:
        return full_mask(photo, run, self.round, classes)


def seen_file(photo: Photo, run: Path, number: int) -> Path:
    return folder(run, number, Masks.name) / "seen" / f"{photo.id}.npy"


def seen_labels(photo: Photo, run: Path, number: int) -> frozenset[int]:
    """The labels, without background, that PixelNet of round `number` sees without tags."""
    return frozenset(np.flatnonzero(np.load(seen_file(photo, run, number)) >= PRESENT).tolist()) - {0}


def full_mask(photo: Photo, run: Path, number: int, classes: tuple[str, ...]) -> np.ndarray:
    """The mask of round `number` at working size: (H, W) uint8 labels of the photo."""
    size = superpixels.read(photo, run).shape
    return strongest(resize_maps(read_maps(photo, run, number), size), photo, classes)


def small_mask(photo: Photo, run: Path, number: int, classes: tuple[str, ...]) -> np.ndarray:
    """The mask of round `number` at the network's stride: (h, w) uint8 labels of the photo."""
    return strongest(np.load(maps_file(photo, run, number)), photo, classes)
