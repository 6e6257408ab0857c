"""Balance: PixelNet paints no fewer pixels than PixelNet of the round before did, and enough of each class.

Seeds are more often sure of background than of objects, DenseCRF removes thin parts, and PixelNet is unsure of thin
parts, of outlines, and of objects larger than in its training crops. Each time the more frequent label wins; a pixel
that is missed once is missing from the next round's labels too, so objects would shrink from round to round, and rare
classes would be lost to frequent ones. PixelNet's biases are therefore moved, as outputs are adjusted to known class
shares in Saerens, Latinne and Decaestecker, "Adjusting the outputs of a classifier to new a priori probabilities"
(Neural Computation 2002): that of background until it paints as much as the masks that the round started from, if
there are any and they have more, then those of classes that it hardly paints.

A network that paints more than before stays as it is: on the photos that it learned from it is surer of objects than on
others, on which it would paint too little.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from tagmask.masks import VOID
from tagmask.photos import read_photo
from tagmask.progress import Advance, silent
from training.datasets.photos import Photo, TaggedPhotos, spread
from training.fitting.adjustment import label_counts
from training.fitting.settings import BALANCED
from training.networks.localize import localize
from training.networks.pixelnet import PixelNet

LIMIT = 1.5
"""Greatest change of a bias, in logits."""

CYCLES = 10
"""How often the classes' biases are fitted in turn; each fit changes the leads of the others."""

PIXELS = 10_000
"""Pixels of a photo that are compared, evenly spread."""

MaskOf = Callable[[Photo], np.ndarray]
"""Gives a photo's (H, W) uint8 labels, 255 void."""


@dataclass(frozen=True)
class PhotoScores:
    """n pixels of a photo: `scores` (L, n) float32 logits of its L `labels`, and `mask` (n,) uint8, 255 void."""

    labels: tuple[int, ...]
    scores: NDArray[np.float32]
    mask: NDArray[np.uint8]

    def leads(self, label: int, change: NDArray[np.float64]) -> NDArray[np.float64]:
        """By how much `label` is the strongest where the mask is known, once `change` (labels,) is added: (k,)."""
        scores = (self.scores + change[list(self.labels), None])[:, self.mask != VOID]
        place = self.labels.index(label)
        lead: NDArray[np.float64] = scores[place] - np.delete(scores, place, axis=0).max(axis=0)
        return lead

    def painted(self, change: NDArray[np.float64]) -> NDArray[np.uint8]:
        """The strongest label where the mask is known, once `change` (labels,) is added: (n,), 255 void elsewhere."""
        scores = self.scores + change[list(self.labels), None]
        return np.where(self.mask == VOID, VOID, np.array(self.labels)[scores.argmax(axis=0)]).astype(np.uint8)


def balance(
    network: PixelNet,
    data: TaggedPhotos,
    *,
    learned: MaskOf,
    least: float,
    before: MaskOf | None,
    long_side: int,
    scale: float,
    flip: bool,
    advance: Advance = silent,
) -> NDArray[np.float64]:
    """Move the biases of `network`, each at most by LIMIT; returns by how much, (labels,) logits.

    That of background, if the network paints fewer pixels than `before`, which may be None; then those of classes
    that it paints on less than the part `least`, 0..1, of their pixels in `learned`, up to this part. Compared are up
    to BALANCED tagged photos of `data`, evenly spread, each limited to its own tags; `scale` and `flip` are those of
    `localize`. `advance(1)` follows each photo.
    """
    network.eval()
    of_learned, of_before = [], []
    for photo in spread(data.tagged(data.classes), BALANCED):
        pixels = read_photo(photo.path, long_side)
        scores, _ = localize(network, pixels, long_side=long_side, scale=scale, flip=flip)  # (labels, h, w)
        own = scores[list(photo.labels(data.classes))].float().cpu().numpy()  # (L, h, w)
        of_learned.append(_photo_scores(photo.labels(data.classes), own, learned(photo)))
        if before is not None:
            of_before.append(_photo_scores(photo.labels(data.classes), own, before(photo)))
        advance(1)
    change = fit_background(of_before, len(data.classes) + 1)
    change = lift_classes(of_learned, change, least)
    assert network.labels.bias is not None
    with torch.no_grad():
        network.labels.bias += torch.from_numpy(change).to(network.labels.bias)
    return change


def fit_background(photos: Sequence[PhotoScores], labels: int) -> NDArray[np.float64]:
    """What to add to the scores, (labels,), at most 0: background is then strongest on no more pixels than in the
    masks.
    """
    change = np.zeros(labels)
    change[0] = min(0, _fit(photos, 0, change, label_counts((photo.mask for photo in photos), labels)[0]))
    return change


def lift_classes(photos: Sequence[PhotoScores], change: NDArray[np.float64], least: float) -> NDArray[np.float64]:
    """`change` (labels,), what to add to the scores, with more for classes that would be painted too little.

    A class that is strongest on less than the part `least`, 0..1, of its pixels in the masks gets that many, those on
    which it leads most.
    """
    change = change.copy()
    goal = least * label_counts((photo.mask for photo in photos), len(change))
    painted = label_counts((photo.painted(change) for photo in photos), len(change))
    starved = [label for label in range(1, len(change)) if painted[label] < goal[label]]
    for label in starved * CYCLES:
        change[label] = max(0, _fit(photos, label, change, goal[label]))
    return change


def _photo_scores(labels: tuple[int, ...], scores: NDArray[np.float32], mask: NDArray[np.uint8]) -> PhotoScores:
    """Evenly spread pixels of `scores` (L, h, w), and of `mask` (H, W) at their size."""
    small = cv2.resize(mask, scores.shape[:0:-1], interpolation=cv2.INTER_NEAREST).reshape(-1)  # (h * w,)
    step = len(small) // PIXELS + 1
    return PhotoScores(labels, scores.reshape(len(labels), -1)[:, ::step], small[::step].astype(np.uint8))


def _fit(photos: Sequence[PhotoScores], label: int, change: NDArray[np.float64], pixels: float) -> float:
    """The element of `change`, -LIMIT..LIMIT, with which `label` is the strongest on so many pixels."""
    leads = np.concatenate([np.zeros(0), *(photo.leads(label, change) for photo in photos if label in photo.labels)])
    if not leads.size:
        return float(change[label])
    least = np.quantile(leads, 1 - min(1, pixels / leads.size))
    return float(np.clip(change[label] - least, -LIMIT, LIMIT))
