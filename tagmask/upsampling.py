"""From the network's probabilities at its small size to masks at the photo's own.

A plane is enlarged bilinearly, pixel centres aligned, edges held, as OpenCV's INTER_LINEAR does, and the strongest
label wins. Between four neighbouring centres that is a convex combination of their values, so a label that is strongest
at all four is strongest in the whole cell between them: only around cells whose corners disagree are pixels computed.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import cv2
import numpy as np
from numpy.typing import NDArray

from tagmask.segmentation import Pixels, Planes

Indices = NDArray[np.intp]

_STRIP_CELLS = 4
_STRIP_PIXELS = 2**20  # each takes up to some 20 bytes beside the result; smaller photos are quicker to do as a whole
_LONGEST_ROW = 2**16


@dataclass(frozen=True)
class Side:
    """Pixels along one side of a photo: each lies between small positions `first` and `second`, `share` of the way."""

    first: Indices
    second: Indices
    share: Planes

    @classmethod
    def of(cls, start: int, stop: int, small: int, large: int) -> "Side":
        """Pixels `start` up to `stop` of a side of `large` pixels that was `small` ones."""
        position = ((np.arange(start, stop) + 0.5) * (small / large) - 0.5).clip(0, small - 1)
        first = position.astype(np.intp)
        return cls(first, np.minimum(first + 1, small - 1), (position - first).astype(np.float32))

    def at(self, chosen: slice | Indices) -> "Side":
        return Side(self.first[chosen], self.second[chosen], self.share[chosen])


def select_labels(probabilities: Planes, labels: Sequence[int]) -> Planes:
    """Probabilities of `labels` alone: (len(labels), h, w) float32, summing to 1 again; uniform where all are 0.

    `probabilities` (C, h, w) float32 of all labels.
    """
    chosen = probabilities[list(labels)]
    total = chosen.sum(axis=0)
    empty = total <= 0
    if empty.any():
        chosen[:, empty], total[empty] = 1, len(labels)
    chosen /= total
    return chosen


def enlarge_mask(probabilities: Planes, labels: Sequence[int], size: tuple[int, int]) -> Pixels:
    """The strongest of `labels` at each pixel, first of equals: `size` (H, W), uint8.

    `probabilities` (len(labels), h, w) float32. Takes some 20 MB beside the mask at most, whatever the size.
    """
    height, width = size
    if width > max(height, _LONGEST_ROW):
        return np.ascontiguousarray(enlarge_mask(probabilities.transpose(0, 2, 1), labels, (width, height)).T)
    strongest = find_strongest(probabilities, labels)
    if size == strongest.shape:
        return strongest
    mixed = _find_mixed(strongest)
    if not mixed.any():
        return np.full(size, strongest[0, 0])
    named = np.array(labels, dtype=np.uint8)
    if height * width <= _STRIP_PIXELS:
        candidates = _find_candidates(probabilities, mixed)
        planes = (cv2.resize(probabilities[index], (width, height)) for index in candidates)
        return find_strongest(planes, named[candidates])
    across = Side.of(0, width, strongest.shape[1], width)
    replicated = strongest.take(across.first, axis=1)
    mask = np.empty(size, dtype=np.uint8)
    for rows, down in _strips(strongest.shape[0], size, _STRIP_CELLS):
        np.take(replicated, down.first, axis=0, out=mask[rows], mode="clip")  # "raise" would copy the strip
        cells = slice(down.first[0], down.first[-1] + 1)
        columns = np.flatnonzero(np.logical_or.reduce(mixed[cells])[across.first])
        if len(columns):
            candidates = _find_candidates(probabilities[:, cells.start : cells.stop + 1], mixed[cells])
            planes = (_bilinear(probabilities[index], down, across.at(columns)) for index in candidates)
            mask[rows, columns] = find_strongest(planes, named[candidates])
    return mask


def enlarge_confidence(probabilities: Planes, labels: Sequence[int], mask: Pixels) -> Pixels:
    """The probability of each pixel's own label in `mask`, which has `labels` alone: (H, W) uint8, 255 = certain.

    `probabilities` (len(labels), h, w) float32, `mask` (H, W). Takes some 20 MB beside the result at most.
    """
    height, width = mask.shape
    if width > max(height, _LONGEST_ROW):
        return np.ascontiguousarray(enlarge_confidence(probabilities.transpose(0, 2, 1), labels, mask.T).T)
    across = Side.of(0, width, probabilities.shape[2], width)
    levels = probabilities * np.float32(255) + np.float32(0.5)  # the cast below rounds down
    confidence = np.zeros(mask.shape, dtype=np.uint8)
    for rows, down in _strips(probabilities.shape[1], mask.shape, height):
        for label, plane in zip(labels, levels, strict=True):
            own = mask[rows] == label
            columns = np.flatnonzero(own.any(axis=0))
            if len(columns):
                span = slice(columns[0], columns[-1] + 1)
                values = _bilinear(plane, down, across.at(span))
                np.copyto(confidence[rows, span], values, where=own[:, span], casting="unsafe")
    return confidence


def _strips(small: int, size: tuple[int, int], cells: int) -> Iterator[tuple[slice, Side]]:
    """Rows of a photo of `size` (H, W) whose height was `small`, at most about `cells` of those at a time."""
    height, width = size
    step = max(1, min(cells * height // small, _STRIP_PIXELS // width))
    for start in range(0, height, step):
        stop = min(start + step, height)
        yield slice(start, stop), Side.of(start, stop, small, height)


def find_strongest(planes: Iterable[Planes], labels: Iterable[int] | None = None) -> Pixels:
    """The label of the greatest of `planes` (h, w) at each place, first of equals: (h, w) uint8.

    `labels`, ascending, are those of the planes, by default their indices. One plane is held at a time.
    """
    each = zip(count() if labels is None else labels, planes, strict=False)
    label, plane = next(each)
    best, winners = plane.copy(), np.full(plane.shape, label, dtype=np.uint8)
    for label, plane in each:
        np.maximum(winners, (plane > best) * np.uint8(label), out=winners)  # as `where`, in half the time
        np.maximum(best, plane, out=best)
    return winners


def _find_mixed(strongest: Pixels) -> NDArray[np.bool_]:
    """Whether the corners of each cell (right of and below a position, the last ones held) disagree: (h, w)."""
    held = np.pad(strongest, (0, 1), mode="edge")
    first = held[:-1, :-1]
    return (held[:-1, 1:] != first) | (held[1:, :-1] != first) | (held[1:, 1:] != first)


def _find_candidates(planes: Planes, mixed: NDArray[np.bool_]) -> Indices:
    """Planes that can be greatest somewhere in the `mixed` cells: no other's least corner is above their greatest.

    The label of a uniform cell beside them is among these, for it is strongest at a corner of one of them.
    """
    upper, left = np.nonzero(mixed)
    lower, right = np.minimum(upper + 1, planes.shape[1] - 1), np.minimum(left + 1, planes.shape[2] - 1)
    corners = np.stack([planes[:, y, x] for y in (upper, lower) for x in (left, right)])
    return np.flatnonzero((corners.max(axis=0) >= corners.min(axis=0).max(axis=0)).any(axis=1))


def _bilinear(plane: Planes, down: Side, across: Side) -> Planes:
    """`plane` (h, w) at the pixels of two sides: (len(down), len(across)) float32."""
    offset = down.first[0]
    band = plane[offset : down.second[-1] + 1]
    left, right = band.take(across.first, axis=1), band.take(across.second, axis=1)
    wide = left + across.share * (right - left)
    values, upper = wide.take(down.second - offset, axis=0), wide.take(down.first - offset, axis=0)
    values -= upper
    values *= down.share[:, None]
    values += upper
    return values
