"""Index masks: what their values mean, and palette PNG files of them."""

from pathlib import Path

import numpy as np
from PIL import Image

from tagmask import files
from tagmask.errors import DataError

VOID = 255
"""Mask value that says nothing, costs nothing and scores nothing."""

BACKGROUND = "background"
"""Name of label 0 and of mask value 0."""

MAX_CLASSES = 254
"""Learned classes at most: labels are uint8, 0 is background and 255 is VOID."""


def palette() -> list[tuple[int, int, int]]:
    """The 256 colours of PASCAL VOC masks, as (red, green, blue).

    Bits 0, 3, 6 of an index make red from its high bit down, bits 1, 4, 7 green, bits 2, 5 blue; void is cream.
    """
    colours = []
    for index in range(256):
        channels = [0, 0, 0]
        for bit in range(8):
            channels[bit % 3] |= (index >> bit & 1) << (7 - bit // 3)
        colours.append((channels[0], channels[1], channels[2]))
    return colours


PALETTE = palette()


def read_mask(path: Path) -> np.ndarray:
    """Read an index mask: (H, W) uint8, value = class index, 255 = void. Raises DataError for anything else."""
    try:
        with Image.open(path) as image:
            if image.mode not in ("P", "L"):
                raise DataError(f"{path}: a mask must be a palette or greyscale PNG, not {image.mode}")
            return np.array(image)
    except DataError:
        raise
    except Exception as fault:
        raise DataError(f"{path}: not a readable mask ({fault}); replace or remove it") from fault


def write_mask(path: Path, mask: np.ndarray) -> None:
    """Write `mask`, (H, W) uint8, as palette PNG in VOC's colours."""
    image = Image.fromarray(mask)
    image.putpalette([value for colour in PALETTE for value in colour])
    files.write_png(path, image)


def overlay(photo: np.ndarray, mask: np.ndarray, opacity: float = 0.55) -> np.ndarray:
    """`photo`, (H, W, 3) uint8 RGB, tinted by `mask`, (H, W) uint8, with white outlines; void is cream."""
    colours = np.array(PALETTE, dtype=np.float32)[mask]
    share = np.where(mask == 0, 0.0, opacity).astype(np.float32)[..., None]
    mixed = photo * (1 - share) + colours * share
    edge = np.zeros(mask.shape, dtype=bool)
    edge[1:] |= mask[1:] != mask[:-1]
    edge[:, 1:] |= mask[:, 1:] != mask[:, :-1]
    mixed[edge] = 255
    return mixed.astype(np.uint8)
