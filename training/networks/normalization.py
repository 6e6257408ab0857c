"""How a photo is normalized for a saliency network: what is taken from its colours, and what the rest is divided by.

A network that gets another normalization than it was trained with still gives a map, and a wrong one. ONNX files rarely
say which it is, so the known families are listed here.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

Channels = tuple[float, float, float]
"""A number each for red, green and blue."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ZERO, HALF, ONE = (0.0,) * 3, (0.5,) * 3, (1.0,) * 3

METADATA = ("image_mean", "image_std"), ("mean", "std")
"""Keys of an ONNX file's metadata that are read; the first pair is named as in Hugging Face's image processors."""

METADATA_REMEDY = (
    "write three numbers for red, green and blue, such as [0.5, 0.5, 0.5], deviations above 0, or choose a known "
    "normalization with saliency.normalization"
)


@dataclass(frozen=True)
class Normalization:
    """(photo - `mean`) / `std`, of a photo scaled to 0..1: divided by 255, or `by_maximum` by its greatest value."""

    mean: Channels
    std: Channels
    by_maximum: bool = False

    def __call__(self, photo: np.ndarray) -> np.ndarray:
        """The input of a network, (1, 3, H, W) float32, for a photo (H, W, 3) uint8 RGB."""
        scale = max(1, photo.max()) if self.by_maximum else 255
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        image = (photo.astype(np.float32) / scale - mean) / std
        return np.ascontiguousarray(image.transpose(2, 0, 1)[None])


@dataclass(frozen=True)
class Choice:
    """A normalization, its name, and why it was chosen, in words."""

    name: str
    normalization: Normalization
    why: str


NORMALIZATIONS: Mapping[str, Normalization] = {
    "imagenet": Normalization(IMAGENET_MEAN, IMAGENET_STD),  # BiRefNet: dataset.py of ZhengPeng7/BiRefNet
    "u2net": Normalization(IMAGENET_MEAN, IMAGENET_STD, by_maximum=True),  # data_loader.py of xuebinqin/U-2-Net
    "isnet": Normalization(HALF, ONE),  # IS-Net/Inference.py of xuebinqin/DIS
    "symmetric": Normalization(HALF, HALF),
    "unit": Normalization(ZERO, ONE),  # networks that normalize by themselves
}

TRIED = ("imagenet", "isnet", "symmetric", "unit")
"""Those that are tried for an unknown network. "u2net" differs from "imagenet" on dark photos alone."""

FAMILIES = {7: "u2net", 12: "isnet"}
"""Families by the number of their outputs: U2-Net (u2netp, silueta) has a map and six side maps, IS-Net six maps and
six feature maps."""


def normalization_in(metadata: Mapping[str, str]) -> Normalization | None:
    """The normalization that an ONNX file's `metadata` gives as JSON lists; None if it gives none.

    Numbers are for photos of 0..1, or of 0..255 if one is above 1. Raises ValueError for other values.
    """
    for keys in METADATA:
        if metadata.keys() & set(keys):
            mean, std = (_numbers(metadata.get(key), key) for key in keys)
            scale = 255 if (np.array((mean, std)) > 1).any() else 1
            if min(std) <= 0:
                raise ValueError(f"{keys[1]!r} is {metadata[keys[1]]}")
            return Normalization(_scaled(mean, scale), _scaled(std, scale))
    return None


def _numbers(text: str | None, key: str) -> list[float]:
    try:
        numbers = [float(number) for number in json.loads(text or "")]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != 3 or not np.isfinite(numbers).all():
        raise ValueError(f"{key!r} is {text or 'absent'}")
    return numbers


def _scaled(numbers: list[float], scale: float) -> Channels:
    red, green, blue = (number / scale for number in numbers)
    return red, green, blue
