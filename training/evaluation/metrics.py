"""How well masks agree with the truth: the confusion of pixels, and the metrics of PASCAL VOC computed from it.

VOC's segmentation accuracy (Everingham et al., "The PASCAL Visual Object Classes Challenge", IJCV 2015, section 4.2)
is, for each class, intersection over union of its pixels over *all* photos together, and mIoU is the mean over classes.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tagmask.errors import DataError
from tagmask.masks import VOID, read_mask
from tagmask.scores import Scores

Counts = NDArray[np.int64]
Figures = NDArray[np.float64]


def confusion(prediction: NDArray[np.uint8], truth: NDArray[np.uint8], classes: int) -> Counts:
    """Count the pixels of each true class by what was predicted: (classes, classes + 1) int64.

    `prediction` and `truth` have one shape and hold class indices below `classes`, or 255 (void). Rows are truth,
    columns prediction. Pixels of void truth are not counted; the last column holds void predictions, each a miss of
    its true class. Raises ValueError for other shapes or values.
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction is {prediction.shape}, truth is {truth.shape}")
    known = truth != VOID
    rows, columns = truth[known].astype(np.int64), prediction[known].astype(np.int64)
    if max(rows.max(initial=0), columns[columns != VOID].max(initial=0)) >= classes:
        raise ValueError(f"a mask holds a value other than 0..{classes - 1} and {VOID}")
    columns[columns == VOID] = classes
    cells = classes * (classes + 1)
    return np.bincount(rows * (classes + 1) + columns, minlength=cells).reshape(classes, classes + 1)


class Confusion:
    """Confusion summed over photos. All figures are percent, (classes,) float64, NaN where they are not defined."""

    def __init__(self, classes: int) -> None:
        self.counts: Counts = np.zeros((classes, classes + 1), dtype=np.int64)

    def add(self, prediction: NDArray[np.uint8], truth: NDArray[np.uint8]) -> None:
        """Count one more photo; see `confusion` for shapes and values."""
        self.counts += confusion(prediction, truth, len(self.counts))

    def iou(self) -> Figures:
        """Intersection over union of each class; NaN where neither truth nor prediction has the class."""
        hits = self.counts.diagonal()
        return _percent(hits, self.counts.sum(axis=1) + self.counts[:, :-1].sum(axis=0) - hits)

    def miou(self) -> float:
        """Mean of `iou()` over the classes that have one; NaN when none has."""
        iou = self.iou()
        known = ~np.isnan(iou)
        return float(iou[known].mean()) if known.any() else float("nan")

    def precision(self) -> Figures:
        """Share of the pixels predicted as a class that are of it; NaN where none is predicted."""
        return _percent(self.counts.diagonal(), self.counts[:, :-1].sum(axis=0))

    def recall(self) -> Figures:
        """Share of the true pixels of a class that are predicted as it; NaN if it has none."""
        return _percent(self.counts.diagonal(), self.counts.sum(axis=1))


def _percent(part: Counts, whole: Counts) -> Figures:
    percent = np.full(len(part), np.nan)
    np.divide(100.0 * part, whole, out=percent, where=whole > 0)
    return percent


def scores_of(total: Confusion, classes: Sequence[str], photos: int, extra: int = 0, missing: int = 0) -> Scores:
    """Figures of a summed confusion; `classes` names its rows, background first."""
    iou = {name: nan_to_none(value) for name, value in zip(classes, total.iou().tolist(), strict=True)}
    return Scores(nan_to_none(total.miou()), iou, photos, extra, missing)


def nan_to_none(value: float) -> float | None:
    """`value`, or None for NaN."""
    return None if np.isnan(value) else float(value)


def score_folders(predictions: Path, truth: Path, classes: Sequence[str]) -> Scores:
    """Score the mask PNGs below `predictions` against those below `truth`, one photo in memory at a time.

    Masks belong together by their path below the folder. `classes` names the values 0, 1, …, background first; 255 is
    void. Masks without a partner are only counted. Raises DataError, naming the file, for another size, a value that
    is no class, a mask that cannot be read, a folder without masks, or when none belong together.
    """
    truths = _masks(truth)
    predicted = _masks(predictions)
    total = Confusion(len(classes))
    shared = sorted(truths.keys() & predicted.keys())
    if not shared:
        raise DataError(f"{predictions}: no mask has the name of one in {truth}; give them the same names")
    for name in shared:
        total.add(*_pair(predicted[name], truths[name], classes))
    extra, missing = len(predicted) - len(shared), len(truths) - len(shared)
    return scores_of(total, classes, len(shared), extra, missing)


def _masks(folder: Path) -> dict[str, Path]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() == ".png" and path.is_file())
    if not paths:
        raise DataError(f"{folder}: no such folder, or no .png mask in it; name the folder that holds the masks")
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in paths}


def _pair(prediction: Path, truth: Path, classes: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    masks = read_mask(prediction), read_mask(truth)
    if masks[0].shape != masks[1].shape:
        sizes = ["{1}x{0}".format(*mask.shape) for mask in masks]
        raise DataError(f"{prediction}: {sizes[0]} pixels, but {truth} has {sizes[1]}; predict at the photo's own size")
    for path, mask in zip((prediction, truth), masks, strict=True):
        beyond = mask[(mask >= len(classes)) & (mask != VOID)]
        if beyond.size:
            raise DataError(
                f"{path}: value {beyond[0]} names no class; {len(classes)} classes are listed, so values are "
                f"0..{len(classes) - 1} and {VOID} (void): complete the class list or correct the mask"
            )
    return masks
