"""Balance: PixelNet paints as many pixels of each label as PixelNet of the round before did, or enough of each class.

Seeds are more often sure of background than of objects, DenseCRF removes thin parts, and PixelNet is unsure of thin
parts, of outlines, and of objects larger than in its training crops. Each time the more frequent label wins; a pixel
that is missed once is missing from the next round's labels too, so objects would shrink from round to round, and rare
classes would be lost to frequent ones. PixelNet's biases are therefore moved until it paints as much of each label as
the masks the round started from, as outputs are adjusted to known class shares in Saerens, Latinne and Decaestecker,
"Adjusting the outputs of a classifier to new a priori probabilities" (Neural Computation 2002). In the first round
there are no such masks, and the labels may reach beyond the objects; only classes that it hardly paints are lifted.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from tagmask.masks import VOID
from tagmask.photos import read_photo
from tagmask.progress import Advance, silent
from training.datasets.photos import Photo, TaggedPhotos
from training.fitting.settings import BALANCED
from training.networks.localize import localize
from training.networks.pixelnet import PixelNet

LIMIT = 1.5
"""Greatest change of a bias, in logits."""

CYCLES = 10
"""How often every bias is fitted in turn; each fit changes the leads of the other labels."""

PIXELS = 10_000
"""Pixels of a photo that are compared, evenly spread."""


@dataclass(frozen=True)
class PhotoScores:
    """n pixels of a photo: `scores` (L, n) float32 logits of its `labels`, `mask` (n,) uint8 what should be painted."""

    labels: tuple[int, ...]
    scores: NDArray[np.float32]
    mask: NDArray[np.uint8]


def balance(
    network: PixelNet,
    data: TaggedPhotos,
    mask: Callable[[Photo], np.ndarray],
    least: float | None = None,
    *,
    long_side: int,
    scale: float,
    flip: bool,
    advance: Advance = silent,
) -> NDArray[np.float64]:
    """Move the biases of `network`, each at most by LIMIT, until it paints as many pixels of each label as `mask` does.

    With `least`, 0..1, only those of classes that it paints on less than this part of their pixels, up to this part.
    `mask(photo)` returns (H, W) uint8 labels, 255 void. Compared are up to BALANCED tagged photos of `data`, evenly
    spread, each limited to its own tags; `scale` and `flip` are those of `localize`. `advance(1)` follows each photo.
    Returns what was added to each bias, (labels,) logits.
    """
    network.eval()
    tagged, photos = data.tagged(data.classes), []
    places = np.linspace(0, len(tagged) - 1, min(BALANCED, len(tagged)), dtype=int)
    for photo in (tagged[place] for place in places):
        scores, _ = localize(network, read_photo(photo.path, long_side), scale=scale, flip=flip)  # (labels, h, w)
        labels = photo.labels(data.classes)
        own = scores[list(labels)].float().cpu().numpy()  # (L, h, w)
        goal = cv2.resize(mask(photo), own.shape[:0:-1], interpolation=cv2.INTER_NEAREST)  # (h, w)
        known = goal != VOID
        step = known.sum() // PIXELS + 1
        photos.append(PhotoScores(labels, own[:, known][:, ::step], goal[known][::step]))
        advance(1)
    change = fit_biases(photos, len(data.classes) + 1, least)
    assert network.labels.bias is not None
    with torch.no_grad():
        network.labels.bias += torch.from_numpy(change).to(network.labels.bias)
    return change


def fit_biases(photos: Sequence[PhotoScores], labels: int, least: float | None = None) -> NDArray[np.float64]:
    """What to add to the scores, (labels,), so that each label is strongest on as many pixels as the masks have of it.

    Each label in turn, background first, gets the pixels on which it leads most; `least` as for `balance`.
    """
    change, goal = np.zeros(labels), _count((photo.mask for photo in photos), labels)
    due = list(range(labels))
    if least is not None:
        goal = least * goal
        painted = _count((np.array(photo.labels)[photo.scores.argmax(axis=0)] for photo in photos), labels)
        due = [label for label in range(1, labels) if painted[label] < goal[label]]
    for label in due * CYCLES:
        leads = [_leads(photo, label, change) for photo in photos if label in photo.labels]
        pixels = np.concatenate([np.zeros(0), *leads])
        if pixels.size:
            least = np.quantile(pixels, 1 - min(1, goal[label] / pixels.size))
            change[label] = np.clip(change[label] - least, -LIMIT, LIMIT)
    return change


def _count(masks: Iterable[NDArray[Any]], labels: int) -> NDArray[np.float64]:
    """The number of pixels of each label, (labels,)."""
    counts = np.zeros(labels)
    for mask in masks:
        counts += np.bincount(mask, minlength=labels)
    return counts


def _leads(photo: PhotoScores, label: int, change: NDArray[np.float64]) -> NDArray[np.float64]:
    """By how much `label` is stronger than the other labels of the photo, once `change` is added: (n,)."""
    scores = photo.scores + change[list(photo.labels), None]
    place = photo.labels.index(label)
    lead: NDArray[np.float64] = scores[place] - np.delete(scores, place, axis=0).max(axis=0)
    return lead
