"""Superpixels: the pieces of a photo that are mined, by graph-based segmentation.

Felzenszwalb and Huttenlocher, "Efficient Graph-Based Image Segmentation", IJCV 2004, on Lab colours.
"""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from tagmask import files
from tagmask.errors import ConfigError
from training.config import SuperpixelConfig

MAX_ID = 2**16 - 1
"""Greatest superpixel id that its PNG can hold."""


def segment(photo: np.ndarray, config: SuperpixelConfig) -> np.ndarray:
    """Cut `photo`, (H, W, 3) uint8 RGB, into superpixels: (H, W) int32 with ids 0..R-1, R at least 1."""
    lab = cv2.cvtColor(photo, cv2.COLOR_RGB2LAB)
    graph = cv2.ximgproc.segmentation.createGraphSegmentation(config.sigma, config.k, config.min_size)
    return graph.processImage(lab).astype(np.int32)


def write(path: Path, regions: np.ndarray) -> None:
    """Write a superpixel map as 16-bit greyscale PNG, value = superpixel id.

    Raises ConfigError for more than 65,536 superpixels.
    """
    if regions.max() > MAX_ID:
        count, setting = regions.max() + 1, "superpixels.min_size"
        raise ConfigError(f"setting {setting}: too small, {path} has {count} superpixels, at most {MAX_ID + 1} fit")
    files.write_png(path, Image.fromarray(regions.astype(np.uint16)))


def read(path: Path) -> np.ndarray:
    """Read a superpixel map: (H, W) int32."""
    with Image.open(path) as image:
        return np.array(image, dtype=np.int32)


def average(values: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Mean of each channel of `values` (K, H, W) inside each superpixel of `regions` (H, W): (R, K) float32."""
    flat = regions.reshape(-1)
    area = np.bincount(flat)  # (R,)
    sums = [np.bincount(flat, weights=channel.reshape(-1)) for channel in values]
    return (np.stack(sums, axis=1) / area[:, None]).astype(np.float32)


def label_shares(mask: np.ndarray, regions: np.ndarray, labels: int) -> np.ndarray:
    """Share of each superpixel's pixels that `mask` gives to each label: (R, labels) float32, void counted in none."""
    count = int(regions.max()) + 1
    known = mask < labels
    pairs = regions[known].astype(np.int64) * labels + mask[known]
    shares = np.bincount(pairs, minlength=count * labels).reshape(count, labels)
    return (shares / np.bincount(regions.reshape(-1), minlength=count)[:, None]).astype(np.float32)
