"""Inputs on which an exported network must agree with PixelNet, and int8 with float. Needs no torch."""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from tagmask.errors import DataError
from tagmask.inputs import Precision
from tagmask.wording import count

PARITY_SIZES = ((96, 128), (161, 97), (240, 320), (33, 47))
"""Heights and widths, in pixels, at which a bundle must agree with PyTorch: even, odd, wide, tall and small."""

PARITY_PHOTOS = 4
"""Photos of the training set that are compared at most, beside generated ones."""

QUANTIZATION_PHOTOS = 60
"""Photos of the training set that an int8 network is calibrated and compared on at most."""

LEAST_QUANTIZATION_PHOTOS = 3
"""Two to calibrate on, and one to compare on."""

BATCHES = (1, 2)


def check_precision(precision: Precision, photos: int) -> None:
    """Raise DataError for fewer photos than an export in `precision` needs."""
    if precision == "int8" and photos < LEAST_QUANTIZATION_PHOTOS:
        raise DataError(
            f"{count(photos, 'photo')} to quantize to int8 with, at least {LEAST_QUANTIZATION_PHOTOS} are needed; name "
            "more photos, or use fp32 or fp16"
        )


def export_count(photos: int, precision: Precision) -> int:
    """The number of inputs that an export runs, for a training set of so many photos."""
    inputs = len(PARITY_SIZES) * len(BATCHES) + min(PARITY_PHOTOS, photos)
    return inputs + min(QUANTIZATION_PHOTOS, photos) if precision == "int8" else inputs


def parity_inputs(photos: Sequence[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
    """Inputs (B, 3, H, W) float32: colour clouds of several grains, then the photos one by one."""
    random = np.random.default_rng(0)
    for height, width in PARITY_SIZES:
        for batch in BATCHES:
            yield colour_clouds(random, batch, height, width)
    for photo in photos:
        yield photo.transpose(2, 0, 1)[None].astype(np.float32)


def colour_clouds(random: np.random.Generator, batch: int, height: int, width: int) -> NDArray[np.float32]:
    """A random input (batch, 3, height, width) float32 0..255, of clouds of several grains."""
    image = np.zeros((batch * 3, height, width), dtype=np.float32)
    for grain in (8, 24):
        for plane in image:
            coarse = random.uniform(0, 127.5, (height // grain + 2, width // grain + 2)).astype(np.float32)
            plane += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    return image.reshape(batch, 3, height, width)
