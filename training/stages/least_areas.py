"""How much of a photo each class covers at least, by the labels that PixelNet learns from.

PixelNet's training writes it. The masks of the training photos, and those of the exported network where tags are
given, have each tag on this area; see `tagmask.tag_weights.given_weights`.
"""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tagmask import files
from training.evaluation.painted import MARK
from training.stages.base import folder

FEW = 0.05
"""Part of the photos with a class that may have less of it."""


def measure(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """The part of a photo, 0..1, that each class covers at least, but on FEW of the photos that have it: (labels - 1,).

    `counts` (N, labels) are the pixels of each label in each photo. A photo has a class from the share MARK on; the
    area of one that no photo has is 0.
    """
    shares = counts[:, 1:] / np.maximum(counts.sum(axis=1, keepdims=True), 1)  # (N, labels - 1)
    having = [share[share >= MARK] for share in shares.T]
    return np.array([np.quantile(share, FEW) if len(share) else 0.0 for share in having])


def write(run: Path, number: int, areas: NDArray[np.float64]) -> None:
    files.write_text(_file(run, number), json.dumps(areas.round(6).tolist()) + "\n")


def read(run: Path, number: int) -> NDArray[np.float64] | None:
    """What `measure` gave in round `number`; None if an earlier version of Tagmask trained its PixelNet."""
    file = _file(run, number)
    return np.array(json.loads(files.read_text(file))) if file.is_file() else None


def _file(run: Path, number: int) -> Path:
    return folder(run, number, "pixelnet") / "least_areas.json"
