"""Means and shares under each superpixel's mask.

The mean over a superpixel of a coarse map, bilinearly upsampled, is linear in the map's cells, so it is one matrix
product with weights that depend on the superpixels alone, without upsampling the map.
"""

import numpy as np


def pool_weights(regions: np.ndarray, height: int, width: int) -> np.ndarray:
    """Weight of each map cell in each superpixel's mean: (R, height * width) float32, rows sum to 1.

    `regions` is (H, W) int32 with ids 0..R-1; the map covers the same photo with (height, width) cells and is read
    bilinearly between cell centres, as `interpolate(align_corners=False)` does.
    """
    count = int(regions.max()) + 1
    top, down = _neighbours(regions.shape[0], height)
    left, right = _neighbours(regions.shape[1], width)
    flat = regions.astype(np.int64).reshape(-1) * (height * width)
    total = np.zeros(count * height * width)
    for rows, row_weights in (top, down):
        for columns, column_weights in (left, right):
            cells = flat + (rows[:, None] * width + columns[None, :]).reshape(-1)  # (H * W,)
            weights = (row_weights[:, None] * column_weights[None, :]).reshape(-1)
            total += np.bincount(cells, weights=weights, minlength=total.size)
    area = np.bincount(regions.reshape(-1), minlength=count)
    return (total.reshape(count, height * width) / area[:, None]).astype(np.float32)


def average(values: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Mean of each channel of `values` (K, H, W) inside each superpixel of `regions` (H, W): (R, K) float32."""
    flat = regions.reshape(-1)
    area = np.bincount(flat)  # (R,)
    sums = [np.bincount(flat, weights=channel.reshape(-1)) for channel in values]
    return (np.stack(sums, axis=1) / area[:, None]).astype(np.float32)


def label_shares(mask: np.ndarray, regions: np.ndarray, labels: int) -> np.ndarray:
    """Share of each superpixel's pixels that `mask` gives to each label: (R, labels) float32; void counts for none."""
    count = int(regions.max()) + 1
    known = mask < labels
    pairs = regions[known].astype(np.int64) * labels + mask[known]
    shares = np.bincount(pairs, minlength=count * labels).reshape(count, labels)
    return (shares / np.bincount(regions.reshape(-1), minlength=count)[:, None]).astype(np.float32)


def _neighbours(pixels: int, cells: int) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """The two cells between which each pixel lies along one axis, with their bilinear weights."""
    position = ((np.arange(pixels) + 0.5) * cells / pixels - 0.5).clip(0, cells - 1)
    low = np.floor(position).astype(np.int64)
    share = position - low
    return (low, 1 - share), (np.minimum(low + 1, cells - 1), share)
