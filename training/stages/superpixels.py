"""Superpixels: the regions of a photo that are mined, by graph-based segmentation.

Felzenszwalb and Huttenlocher, "Efficient Graph-Based Image Segmentation", IJCV 2004, on Lab colours.

Reads the photo. Writes superpixels/ID.png, 16-bit greyscale, value = superpixel.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from pydantic import BaseModel, Field

from tagmask import files
from tagmask.errors import ConfigError, DataError
from tagmask.photos import read_photo
from training.datasets.photos import Photo
from training.stages.base import PhotoStage

MAX_ID = 2**16 - 1
"""Greatest superpixel id that the PNG can hold."""


class SuperpixelsConfig(BaseModel, frozen=True, extra="forbid"):
    """How finely a photo is cut; the defaults give about 270 superpixels at 320x240."""

    sigma: float = Field(0.5, ge=0, le=5, description="Gaussian smoothing before segmentation, pixels")
    k: float = Field(60, gt=0, le=10_000, description="preference for larger superpixels, grey levels x pixels")
    min_size: int = Field(40, ge=1, le=100_000, description="smallest superpixel, pixels")


@dataclass(frozen=True)
class Superpixels(PhotoStage):
    """Cuts a photo into superpixels."""

    long_side: int
    settings: SuperpixelsConfig

    name = "superpixels"
    reads = ()
    tagged = False

    def run(self, photo: Photo, run: Path, classes: tuple[str, ...], network: Any = None) -> None:
        write(self.file(photo, run), segment(read_photo(photo.path, self.long_side), self.settings))

    def picture(self, photo: Photo, pixels: np.ndarray, run: Path) -> np.ndarray:
        """The photo with yellow outlines."""
        regions = read_for(pixels, photo, run)
        edge = np.zeros(regions.shape, dtype=bool)
        edge[1:] |= regions[1:] != regions[:-1]
        edge[:, 1:] |= regions[:, 1:] != regions[:, :-1]
        return np.where(edge[..., None], np.array((255, 255, 0), dtype=np.uint8), pixels)


def segment(photo: np.ndarray, config: SuperpixelsConfig) -> np.ndarray:
    """Cut `photo`, (H, W, 3) uint8 RGB, into superpixels: (H, W) int32 with ids 0..R-1, R at least 1."""
    lab = cv2.cvtColor(photo, cv2.COLOR_RGB2LAB)
    graph = cv2.ximgproc.segmentation.createGraphSegmentation(config.sigma, config.k, config.min_size)
    return graph.processImage(lab).astype(np.int32)


def write(path: Path, regions: np.ndarray) -> None:
    """Write a superpixel map (H, W). Raises ConfigError for more than 65,536 superpixels."""
    if regions.max() > MAX_ID:
        has = f"{path} has {regions.max() + 1:,} superpixels, at most {MAX_ID + 1:,} fit"
        raise ConfigError(f"setting superpixels.min_size: too small, {has}; raise it")
    files.write_png(path, Image.fromarray(regions.astype(np.uint16)))


def read(photo: Photo, run: Path) -> np.ndarray:
    """The superpixel map of a photo: (H, W) int32."""
    return np.array(files.read_png(Superpixels.file_of(photo, run)), dtype=np.int32)


def read_for(pixels: np.ndarray, photo: Photo, run: Path) -> np.ndarray:
    """The superpixel map of a photo, as `read`, for its `pixels`, (H, W, 3) uint8 RGB.

    Raises DataError if these are of another size, as the photo was replaced since it was cut.
    """
    regions = read(photo, run)
    if pixels.shape[:2] != regions.shape:
        raise DataError(
            f"{photo.path}: has another size than when the training began; put the first photo back, or train again "
            "into another folder"
        )
    return regions


def paint(values: np.ndarray, photo: Photo, run: Path) -> np.ndarray:
    """`values` (R, K) of a photo's superpixels at each pixel: (K, H, W)."""
    return values[read(photo, run)].transpose(2, 0, 1)
