"""Mask pictures: palette PNG, value = class index, 255 = void."""

from pathlib import Path

import numpy as np
from PIL import Image

from training import atomic


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


def write_mask(path: Path, mask: np.ndarray) -> None:
    """Write `mask`, (H, W) uint8, as palette PNG in VOC's colours."""
    image = Image.fromarray(mask)
    image.putpalette([value for colour in PALETTE for value in colour])
    atomic.write_png(path, image)


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
