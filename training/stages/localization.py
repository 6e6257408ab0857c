"""Localization: where each tag is, by the tag classifier (`class_maps`) or by PixelNet (`masks`).

What the two stages have in common. One pass of a network over a photo gives both its class maps and the features of
every superpixel, pooled under its mask. Both write to their folder:

    maps/ID.npy       (K, h, w) float16: class maps of the photo's labels, at the network's stride
    features/ID.npy   (R, F) float16: mean features of each superpixel
"""

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import cv2
import numpy as np
from pydantic import BaseModel, Field

from tagmask import files
from tagmask.photos import read_photo
from training.datasets.photos import Photo
from training.stages import superpixels
from training.stages.base import MaskStage, StageId, folder
from training.stages.pooling import average, pool_weights

if TYPE_CHECKING:
    from torch import Tensor


class LocalizationConfig(BaseModel, frozen=True, extra="forbid"):
    """The input of the network when it localizes."""

    scale: float = Field(1.5, gt=0, le=4, description="input size / working size")
    flip: bool = Field(True, description="average with the mirrored photo")


@dataclass(frozen=True)
class Localization(MaskStage):
    """Writes the class maps of a photo and the features of its superpixels."""

    long_side: int
    backbone: str
    settings: LocalizationConfig

    needs_torch: ClassVar[bool] = True

    def file(self, photo: Photo, run: Path) -> Path:
        return maps_file(photo, run, self.round)

    @abstractmethod
    def maps(self, scores: "Tensor", photo: Photo, run: Path, classes: tuple[str, ...]) -> "Tensor":
        """The class maps to write: scores (C, h, w), logits of all outputs -> (K, h, w)."""

    def run(self, photo: Photo, run: Path, classes: tuple[str, ...], network: Any = None) -> None:
        from training.networks.localize import half_precision, localize

        pixels = read_photo(photo.path, self.long_side)
        regions = superpixels.read_for(pixels, photo, run)
        with half_precision():
            scores, features = localize(
                network, pixels, long_side=self.long_side, scale=self.settings.scale, flip=self.settings.flip
            )
        maps = self.maps(scores, photo, run, classes)
        files.write_array(features_file(photo, run, self.round), region_features(pixels, regions, features))
        files.write_array(self.file(photo, run), maps.cpu().numpy().astype(np.float16))


def region_features(photo: np.ndarray, regions: np.ndarray, features: "list[Tensor]") -> np.ndarray:
    """Mean features under each superpixel's mask, and its mean Lab colour: (R, F) float16.

    `photo` (H, W, 3) uint8 RGB, `regions` (H, W) int32, `features` [(F_i, h_i, w_i)].
    """
    import torch

    pooled = []
    for each in features:
        weights = torch.from_numpy(pool_weights(regions, *each.shape[1:])).to(each.device)  # (R, h * w)
        pooled.append((weights @ each.flatten(1).T.float()).cpu().numpy())  # (R, F_i)
    lab = cv2.cvtColor(photo, cv2.COLOR_RGB2LAB).transpose(2, 0, 1).astype(np.float32) / 128 - 1
    pooled.append(average(lab, regions))
    return np.concatenate(pooled, axis=1).astype(np.float16)


def region_colours(features: np.ndarray) -> np.ndarray:
    """The mean colours in `features` (R, F) of `region_features`: (R, 3) float32, Lab units of 8 bits, -128..127."""
    return 128 * features[:, -3:].astype(np.float32)


def localization_id(number: int) -> StageId:
    """The stage that localized for round `number` + 1: the class maps, or the masks of round `number`."""
    return number, "masks" if number else "class_maps"


def maps_file(photo: Photo, run: Path, number: int) -> Path:
    return folder(run, *localization_id(number)) / "maps" / f"{photo.id}.npy"


def features_file(photo: Photo, run: Path, number: int) -> Path:
    return folder(run, *localization_id(number)) / "features" / f"{photo.id}.npy"


def mean_features(photo: Photo, run: Path, number: int) -> np.ndarray:
    """Mean features of a photo, by its superpixels: (F,) float32."""
    features = np.load(features_file(photo, run, number)).astype(np.float32)  # (R, F)
    sizes = np.bincount(superpixels.read(photo, run).reshape(-1))
    mean: np.ndarray = (sizes @ features / sizes.sum()).astype(np.float32)
    return mean


def read_maps(photo: Photo, run: Path, number: int) -> np.ndarray:
    """Class maps (K, h, w) float32."""
    return np.load(maps_file(photo, run, number)).astype(np.float32)


def resize_maps(maps: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Bilinear resize of (K, h, w) float32 maps to (K, H, W); `size` is (H, W)."""
    height, width = size
    return np.stack([cv2.resize(each, (width, height), interpolation=cv2.INTER_LINEAR) for each in maps])
