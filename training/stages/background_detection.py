"""Robust background detection: saliency from contrast against what runs along the photo's border.

Zhu, Liang, Wei and Sun, "Saliency Optimization from Robust Background Detection", CVPR 2014; equation numbers are
theirs. A region is background where the regions that look like it run along the photo's border; saliency is contrast
against background, smoothed over like neighbours.

The paper's superpixels are of about equal size, ours are not, so every sum over superpixels is a sum over pixels:
regions count by their area, borders and shared boundaries by their length. With regions of one size and shape the two
are the same.
"""

from typing import TYPE_CHECKING

import cv2
import numpy as np
from scipy.sparse import coo_array, diags_array
from scipy.sparse.csgraph import dijkstra
from scipy.sparse.linalg import spsolve
from scipy.spatial.distance import cdist

if TYPE_CHECKING:
    from training.stages.saliency import SaliencyConfig


def region_saliency(photo: np.ndarray, regions: np.ndarray, config: "SaliencyConfig") -> np.ndarray:
    """Saliency of each region by robust background detection: (R,) float32, from 0 to 1 within the photo.

    `photo` is (H, W, 3) uint8 RGB, `regions` (H, W) integer with ids 0..R-1, all used. All zero where nothing stands
    out: one region, one colour. Needs memory for a few (R, R) float64 arrays.
    """
    area = np.bincount(regions.ravel())  # (R,) pixels
    if len(area) == 1:
        return np.zeros(1, np.float32)
    height, width = regions.shape
    row, column = np.indices(regions.shape)
    lab = cv2.cvtColor(photo.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)  # L 0..100
    color = _means([lab[..., channel] for channel in range(3)], regions)  # (R, 3)
    position = _means([row / height, column / width], regions)  # (R, 2) 0..1
    distance = cdist(color, color)  # (R, R) Lab units
    pairs, length = _neighbours(regions)

    background = _background(regions, area, pairs, distance, config)
    nearness = _gaussian(cdist(position, position), config.sigma_spatial)
    contrast = (distance * nearness) @ (background * area) / area.sum()  # eq. 7, Lab units
    foreground = stretch(contrast)
    affinity = (_gaussian(distance[pairs], config.sigma_color) + config.mu) * length / length.mean()  # eq. 10
    return stretch(_optimum(background, foreground, area / area.mean(), pairs, affinity)).astype(np.float32)


def _background(
    regions: np.ndarray,
    area: np.ndarray,
    pairs: tuple[np.ndarray, np.ndarray],
    distance: np.ndarray,
    config: "SaliencyConfig",
) -> np.ndarray:
    """Probability that each region is background, from its boundary connectivity: (R,) 0..1 (eq. 2 to 5 and 8)."""
    count = len(area)
    frame = np.ones(regions.shape, bool)
    frame[1:-1, 1:-1] = False
    border = np.bincount(regions[frame], minlength=count)  # (R,) pixels on the photo's border
    outer = np.flatnonzero(border)
    linked = np.zeros((count, count), bool)
    linked[pairs] = True
    linked[np.ix_(outer, outer)] = True  # the paper links all border regions: an object may cut the background in two
    start, end = np.nonzero(np.triu(linked | linked.T, 1))
    graph = coo_array((distance[start, end], (start, end)), shape=(count, count)).tocsr()
    geodesic = dijkstra(graph, directed=False, limit=6 * config.sigma_color)  # beyond is inf, and 1e-8 alike
    alike = _gaussian(geodesic, config.sigma_color)  # (R, R)
    connectivity = (alike @ border) / np.sqrt(alike @ area)
    return 1 - _gaussian(connectivity, config.sigma_boundary_connectivity)


def _optimum(
    background: np.ndarray,
    foreground: np.ndarray,
    weight: np.ndarray,
    pairs: tuple[np.ndarray, np.ndarray],
    affinity: np.ndarray,
) -> np.ndarray:
    """The s (R,) that minimises sum w (b s^2 + f (s - 1)^2) + sum over pairs a (s_i - s_j)^2 (eq. 9).

    Positive definite: the region graph is connected, affinities are positive and border regions have b > 0.
    """
    count = len(weight)
    one_way = coo_array((affinity, pairs), shape=(count, count))
    links = (one_way + one_way.T).tocsr()
    diagonal = links.sum(axis=1) + weight * (background + foreground)
    return spsolve((diags_array(diagonal) - links).tocsc(), weight * foreground)


def _neighbours(regions: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Pairs of regions (first < second) that share a boundary, and how long it is in pixel edges (4-connected)."""
    count = int(regions.max()) + 1
    first = np.concatenate([regions[:, :-1].ravel(), regions[:-1].ravel()]).astype(np.int64)
    second = np.concatenate([regions[:, 1:].ravel(), regions[1:].ravel()]).astype(np.int64)
    code = np.minimum(first, second) * count + np.maximum(first, second)
    code, length = np.unique(code[first != second], return_counts=True)
    return (code // count, code % count), length


def _means(channels: list[np.ndarray], regions: np.ndarray) -> np.ndarray:
    """Mean of each (H, W) channel in each region: (R, C) float64."""
    labels = regions.ravel()
    sums = [np.bincount(labels, weights=channel.ravel()) for channel in channels]
    return np.stack(sums, axis=1) / np.bincount(labels)[:, None]


def stretch(values: np.ndarray) -> np.ndarray:
    """Values scaled linearly to 0..1; all 0 where they differ by rounding only."""
    low, high = values.min(), values.max()
    if high - low < 1e-6:
        return np.zeros_like(values)
    return (values - low) / (high - low)


def _gaussian(distance: np.ndarray, sigma: float) -> np.ndarray:
    return np.exp(-(distance**2) / (2 * sigma**2))
