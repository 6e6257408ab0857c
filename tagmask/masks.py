"""Index masks: what their values mean, and palette PNG files of them."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from tagmask import files
from tagmask.errors import DataError

VOID = 255
"""Mask value of unlabelled pixels, which count neither in training nor in scores."""

BACKGROUND = "background"
"""Name of label 0 and of mask value 0."""

MAX_CLASSES = 254
"""Maximum number of learned classes: labels are uint8, 0 is background and 255 is VOID."""


def _colour(index: int) -> tuple[int, int, int]:
    """Bits 0, 3, 6 of `index` make red from its high bit down, bits 1, 4, 7 green, bits 2, 5 blue."""
    channels = [0, 0, 0]
    for bit in range(8):
        channels[bit % 3] |= (index >> bit & 1) << (7 - bit // 3)
    return channels[0], channels[1], channels[2]


PALETTE = tuple(map(_colour, range(256)))
"""The colours of PASCAL VOC masks by mask value, as (red, green, blue); void is cream."""


def read_mask(path: Path) -> np.ndarray:
    """Read an index mask: (H, W) uint8, value = class index, 255 = void. Raises DataError for anything else."""
    image = _read(path)
    if image.mode not in ("P", "L"):
        raise DataError(f"{path}: a mask must be a palette or greyscale PNG, not {image.mode}")
    return np.array(image)


class Provenance(NamedTuple):
    """What predicted a mask: the version of its `model`, the mean probability of its pixels, `score`, 0..1, and the
    `options` that it was predicted with, in words.
    """

    model: str
    score: float
    options: str = ""


def read_provenance(path: Path) -> Provenance | None:
    """What predicted a mask; None if it does not say so."""
    texts = _read(path).text
    try:
        provenance = Provenance(texts["model"], float(texts["score"]), texts.get("options", ""))
    except (KeyError, ValueError):
        return None
    return provenance if 0 <= provenance.score <= 1 else None


def write_mask(path: Path, mask: np.ndarray, provenance: Provenance | None = None) -> None:
    """Write `mask`, (H, W) uint8, as palette PNG in VOC's colours, with its `provenance`, if any, as text."""
    texts = {name: str(value) for name, value in provenance._asdict().items()} if provenance else {}
    files.write_png(path, mask_image(mask), texts)


def mask_image(mask: np.ndarray) -> Image.Image:
    """`mask`, (H, W) uint8, in VOC's colours."""
    image = Image.fromarray(mask)
    image.putpalette([value for colour in PALETTE for value in colour])
    return image


def _read(path: Path) -> PngImageFile:
    try:
        return files.read_png(path)
    except OSError as fault:
        raise DataError(f"{path}: {files.read_fault(fault)}") from fault
    except ValueError as fault:
        raise DataError(f"{path}: not a readable mask ({fault}); replace or remove it") from fault
