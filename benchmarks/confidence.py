"""How well the confidence in a mask follows its true IoU, photo by photo.

    python -m benchmarks.confidence DATA --split val --classes cat,cow,... [--model MODEL.onnx] [--crf]

Without and with the photo's tags, for the expected IoU that a service gives and for other figures of the same
probabilities: Spearman's rank correlation with the true IoU of the mask, the area under the ROC curve of "true IoU
below 0.5", and the mean absolute error. Then, for several limits, the share of photos below, and of these and of all
with a true IoU below 0.5, which share is both. Last, the time that it takes. The IoU of a photo is the mean over its
classes, true or painted, without background unless there is no other.
"""

import statistics
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Column, Table
from scipy.stats import mannwhitneyu, spearmanr

from benchmarks.command import Classes, Split, command_of
from benchmarks.networks import Mask
from tagmask import upsampling
from tagmask.cli.terminal import Bars
from tagmask.expected_iou import expected_ious, mask_iou
from tagmask.masks import read_mask
from tagmask.photos import read_photo
from tagmask.segmenter import PRETRAINED, Segmenter
from training.datasets import load
from training.datasets.photos import Photo
from training.evaluation.measure import truth_table
from training.evaluation.metrics import Confusion

BAD = 0.5
LIMITS = (0.4, 0.5, 0.6, 0.7)
SERVED = "expected IoU, mean over classes (served)"

Figures = dict[str, float]
Values = NDArray[np.float64]


def main(
    data: Path,
    split: Split,
    classes: Classes = "cat,cow,dog,horse,person,sheep",
    model: Annotated[Path, typer.Option(show_default="the pretrained one")] = PRETRAINED,
    crf: Annotated[bool, typer.Option("--crf", help="Refine masks by DenseCRF.")] = False,
) -> None:
    """Print the tables."""
    segmenter = Segmenter.load(model)
    photos = load(data, split=split, classes=classes.split(",")).respelled(segmenter.classes)
    truths = truth_table(photos.mask_classes, segmenter.classes[1:])
    seconds: list[float] = []
    measured: dict[str, list[tuple[float, Figures]]] = {"without tags": [], "with tags": []}
    with Bars().stage("measuring", len(photos.photos)) as advance:
        for photo in photos.photos:
            assert photo.mask is not None, f"{photo.id} has no true mask"
            truth = truths[read_mask(photo.mask)]
            for name, tags in zip(measured, ((), photo.tags), strict=True):
                measured[name].append(measure(segmenter, photo, truth, tags, crf, seconds))
            advance(1)
    console = Console(width=120)
    for name, pairs in measured.items():
        true = np.array([iou for iou, _ in pairs])
        title = f"{name}: {len(true)} photos, mean IoU {true.mean():.3f}, {(true < BAD).mean():.1%} below {BAD}"
        console.print(*tables(title, true, {form: np.array([f[form] for _, f in pairs]) for form in pairs[0][1]}))
    console.print(f"{1000 * statistics.median(seconds):.2f} ms per photo")


def measure(
    segmenter: Segmenter, photo: Photo, truth: Mask, tags: tuple[str, ...], crf: bool, seconds: list[float]
) -> tuple[float, Figures]:
    """The true IoU of a mask and, by name, what its probabilities tell about it; adds the time that is taken."""
    prediction = segmenter.predict(read_photo(photo.path))
    labels = segmenter.labels_of(tags)
    selected = prediction.select(labels, tagged=bool(tags))
    coloured, refined = prediction.refine(selected, segmenter.crf if crf else None)
    start = time.perf_counter()
    winners = upsampling.find_strongest(refined)
    ious = expected_ious(coloured, winners)
    seconds.append(time.perf_counter() - start)
    mask = upsampling.enlarge_mask(refined, labels, (truth.shape[0], truth.shape[1]))
    return true_iou(mask, truth, len(segmenter.classes)), figures(coloured, winners, ious, tagged=bool(tags))


def true_iou(mask: Mask, truth: Mask, classes: int) -> float:
    """The IoU of a photo's mask, 0..1; `mask` and `truth` (H, W) uint8 labels, 255 is void in `truth`."""
    confusion = Confusion(classes)
    confusion.add(mask, truth)
    return mask_iou({label: iou / 100 for label, iou in enumerate(confusion.iou()) if not np.isnan(iou)}, 0)


def figures(probabilities: NDArray[np.float32], winners: Mask, ious: Values, *, tagged: bool) -> Figures:
    """Each form of confidence in the mask `winners` (h, w), 0..1.

    `probabilities` (labels, h, w), background first, and `ious` (labels,) are as `expected_ious` has them. All labels
    are listed if the photo is `tagged`, else those that are painted.
    """
    own = np.take_along_axis(probabilities, winners[None], axis=0)[0]
    painted = np.bincount(winners.ravel(), minlength=len(ious))
    listed = [label for label in range(len(ious)) if painted[label] or tagged]
    objects = [label for label in listed if label] or [0]
    expected = probabilities.sum(axis=(1, 2), dtype=np.float64)[objects]
    return {
        SERVED: mask_iou({label: ious[label] for label in listed}, 0),
        "expected IoU, weighted by area": float(np.average(ious[objects], weights=expected)),
        "mean probability of painted pixels": float(own[winners > 0].mean() if winners.any() else own.mean()),
        "mean probability of all pixels": float(own.mean()),
    }


def tables(title: str, true: Values, forms: dict[str, Values]) -> tuple[Table, Table]:
    """How well each of `forms` follows the `true` IoU of the same photos, and what limits of the first find."""
    ranking = Table("confidence", *(Column(name, justify="right") for name in ("rank corr.", "ROC", "error")))
    ranking.title = title
    bad = true < BAD
    for name, values in forms.items():
        pairs = mannwhitneyu(values[~bad], values[bad]).statistic / (bad.sum() * (~bad).sum())
        rank = spearmanr(values, true).statistic
        ranking.add_row(name, f"{rank:.3f}", f"{pairs:.3f}", f"{np.abs(values - true).mean():.3f}")
    limits = Table(*(Column(name, justify="right") for name in ("limit", "below", "precision", "recall")))
    for limit in LIMITS:
        low = forms[SERVED] < limit
        hits = (low & bad).sum()
        limits.add_row(
            f"{limit}", f"{low.mean():.1%}", f"{hits / max(1, low.sum()):.2f}", f"{hits / max(1, bad.sum()):.2f}"
        )
    return ranking, limits


if __name__ == "__main__":
    command_of(main)()
