"""The results of stages compared with true masks, which training reads only to measure."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from tagmask.masks import VOID, read_mask
from training.datasets.photos import Photo
from training.evaluation.metrics import Counts, confusion
from training.stages.base import MaskStage


def truth_table(mask_classes: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """(256,) uint8: true mask value -> label of the model; classes that are not learned, and 255, become void."""
    table = np.full(256, VOID, dtype=np.uint8)
    table[0] = 0
    for label, name in enumerate(classes, start=1):
        if name in mask_classes:
            table[mask_classes.index(name)] = label
    return table


def stage_counts(
    photo: Photo, stage: MaskStage, *, run: Path, classes: tuple[str, ...], mask_classes: Sequence[str]
) -> Counts | None:
    """Confusion of a stage's mask with the truth, (C + 1, C + 2); None for a photo without a true mask."""
    if photo.mask is None:
        return None
    truth = truth_table(mask_classes, classes)[read_mask(photo.mask)]
    mask = stage.mask(photo, run, classes)
    if mask.shape != truth.shape:
        mask = cv2.resize(mask, truth.shape[::-1], interpolation=cv2.INTER_NEAREST)
    return confusion(mask, truth, len(classes) + 1)
