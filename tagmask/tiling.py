"""Large photos in overlapping tiles: the network sees each tile as a photo of its own, and their probabilities are
blended.

Beside the photo, its mask and its confidence, only the probabilities of one row of tiles are in memory.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from tagmask import photos
from tagmask.errors import TooLarge
from tagmask.expected_iou import IouSums
from tagmask.metadata import MAX_OUTPUT
from tagmask.segmentation import Pixels, Planes
from tagmask.upsampling import Side, find_strongest

Predict = Callable[[Pixels], Planes]
"""The probabilities of a tile, (h, w, 3) uint8 RGB: (layers, labels, h, w) float32, summing to 1 over labels."""

_OVERLAP = 4  # neighbouring tiles share at least this part of their side: a quarter
_STRIP_PIXELS = 2**20  # of the mask, painted at a time


@dataclass(frozen=True)
class TiledMask:
    """The masks of a photo of `size` (H, W): `mask` (H, W) uint8, value = label, `confidence` (H, W) uint8, 255 =
    certain, and the expected IoU of each label, (labels,) 0..1.
    """

    mask: Pixels
    confidence: Pixels
    ious: NDArray[np.float64]


def scaled_side(longest: int, *, tile: int | None, working_size: int) -> int:
    """The longer side, in pixels, that a photo of `longest` pixels is scaled to, so that a tile has the working size.

    The working size itself where a tile holds the photo, and without tiles: 0 or None.
    """
    return round(longest * working_size / tile) if tile and longest > tile else working_size


def check_scaled(size: tuple[int, int], long_side: int, max_pixels: int) -> None:
    """Raise TooLarge if a photo of `size` (H, W) scaled to `long_side` pixels has more than `max_pixels`."""
    height, width = photos.scaled_size(size, long_side)
    if height * width > max_pixels:
        message = f"the tiles scale the photo to {width}x{height} pixels, more than {max_pixels}; set a larger tile"
        raise TooLarge(message, code="tile_too_small", field="tile", limit=max_pixels)


def segment_tiles(
    photo: Pixels, side: int, predict: Predict, labels: Sequence[int], size: tuple[int, int], layers: int = 1
) -> TiledMask:
    """The masks of `photo`, (h, w, 3) uint8 RGB, in tiles of at most `side` x `side` pixels, enlarged to `size` (H, W).

    `predict` gives `layers` layers: the last one makes the mask, the first one the expected IoU. Raises TooLarge if the
    probabilities of a row of tiles take more than MAX_OUTPUT bytes.
    """
    height, width = photo.shape[:2]
    taken = 4 * layers * len(labels) * min(side, height) * width
    if taken > MAX_OUTPUT:
        remedy = "limit the classes by tags, or set a larger tile"
        message = f"the probabilities of a row of tiles take {taken:,} bytes, more than {MAX_OUTPUT:,}; {remedy}"
        raise TooLarge(message, code="tile_too_small", field="tile", limit=MAX_OUTPUT)
    painting = _Painting(labels, (height, width), size)
    sums = IouSums(len(labels))
    for band in _blend(photo, side, predict, (layers, len(labels))):
        sums.add(band[0], find_strongest(band[-1]))
        painting.extend(band[-1])
    return TiledMask(painting.mask, painting.confidence, sums.ious())


def _blend(photo: Pixels, side: int, predict: Predict, planes: tuple[int, int]) -> Iterator[Planes]:
    """The blended probabilities of `photo` from top to bottom: each (layers, labels, rows, w), until the next one."""
    height, width = photo.shape[:2]
    rows, columns = _spans(height, side), _spans(width, side)
    band = np.zeros((*planes, len(rows[0].weights), width), dtype=np.float32)
    for row, next_start in zip(rows, [*(row.start for row in rows[1:]), height], strict=True):
        for column in columns:
            across = slice(column.start, column.start + len(column.weights))
            tile = photo[row.start : row.start + len(row.weights), across]
            band[..., across] += predict(tile) * (row.weights[:, None] * column.weights)
        done = next_start - row.start
        yield band[..., :done, :]
        held = band.shape[2] - done
        band[..., :held, :] = band[..., done:, :]
        band[..., held:, :] = 0


@dataclass(frozen=True)
class _Span:
    """A tile along one side of a photo: its first pixel, and the weight of each pixel, (side,) float32."""

    start: int
    weights: Planes


def _spans(length: int, side: int) -> list[_Span]:
    """Evenly spread tiles that cover `length` pixels; at each pixel their weights sum to 1.

    What a network sees near a border of a tile lacks its surroundings: the outer third of an overlap has no weight,
    except at the border of the photo, and in the middle third one tile fades into the next.
    """
    side = min(side, length)
    overlap = side // _OVERLAP
    count = max(1, math.ceil((length - overlap) / (side - overlap)))
    starts = np.linspace(0, length - side, count).round().astype(int).tolist()
    margin = overlap // 3
    rise = ((np.arange(side) + 0.5 - margin) / max(1, overlap - 2 * margin)).clip(0, 1)
    total = np.zeros(length)
    weights = []
    for start in starts:
        weight = np.ones(side)
        if start > 0:
            weight *= rise
        if start + side < length:
            weight *= rise[::-1]
        total[start : start + side] += weight
        weights.append(weight)
    return [
        _Span(start, (weight / total[start : start + side]).astype(np.float32))
        for start, weight in zip(starts, weights, strict=True)
    ]


class _Painting:
    """The mask and the confidence of a photo, painted from top to bottom as the probabilities of its rows come in.

    They are enlarged bilinearly, pixel centres aligned, edges held, as `tagmask.upsampling` does it.
    """

    def __init__(self, labels: Sequence[int], small: tuple[int, int], size: tuple[int, int]) -> None:
        """For a photo of `size` (H, W) whose probabilities have the size `small` (h, w)."""
        height, width = size
        self.mask: Pixels = np.empty(size, dtype=np.uint8)
        self.confidence: Pixels = np.empty(size, dtype=np.uint8)
        self._labels = labels
        self._down = Side.of(0, height, small[0], height)
        self._step = max(1, _STRIP_PIXELS // width)
        self._painted = 0  # rows of the mask
        self._top = 0  # row of the probabilities that `_band` begins with
        self._band = np.empty((len(labels), 0, small[1]), dtype=np.float32)

    def extend(self, planes: Planes) -> None:
        """Paint what the next rows of probabilities, (labels, rows, w) float32, allow."""
        self._band = np.concatenate([self._band, planes], axis=1)
        end = int(np.searchsorted(self._down.second, self._top + self._band.shape[1]))
        for start in range(self._painted, end, self._step):
            self._paint(slice(start, min(start + self._step, end)))
        self._painted = end
        self._top += self._band.shape[1] - 1  # a row between two bands needs the last one of the first
        self._band = self._band[:, -1:].copy()

    def _paint(self, rows: slice) -> None:
        down = self._down.at(rows)
        first, second = down.first - self._top, down.second - self._top
        part = self._band[:, first[0] : second[-1] + 1]
        best = np.zeros((len(first), self.mask.shape[1]), dtype=np.float32)
        for label, plane in zip(self._labels, part, strict=True):
            if plane.max() < 0.99 / len(part):  # the strongest label has at least the mean
                continue
            wide = np.asarray(cv2.resize(plane, (best.shape[1], len(plane))), dtype=np.float32)
            above = wide.take(first - first[0], axis=0)
            values = wide.take(second - first[0], axis=0)
            values -= above
            values *= down.share[:, None]
            values += above
            np.copyto(self.mask[rows], label, where=values > best, casting="unsafe")
            np.maximum(best, values, out=best)
        best *= 255
        best += 0.5
        np.copyto(self.confidence[rows], best, casting="unsafe")  # rounds down
