"""Saliency: how much each pixel stands out, whatever its class; the prior of the Bayes refinement.

Unsupervised by default, so that tags stay the only supervision: robust background detection (Zhu, Liang, Wei and Sun,
"Saliency Optimization from Robust Background Detection", CVPR 2014; equation numbers below are theirs). A region is
background where the regions that look like it run along the photo's border; saliency is contrast against background,
smoothed over like neighbours.

The paper's superpixels are of about equal size, ours are not, so every sum over superpixels is one over pixels here:
regions count by their area, borders and shared boundaries by their length. With regions of one size and shape the
two are the same.

Any ONNX saliency network can take its place (`OnnxSaliency`). Most are trained on pixel labels: a result that used
one must say so.
"""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from scipy.sparse import coo_array, diags_array
from scipy.sparse.csgraph import dijkstra
from scipy.sparse.linalg import spsolve
from scipy.spatial.distance import cdist

from tagmask.errors import ConfigError
from training.config import SaliencyConfig

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
DYNAMIC_SIDE = 320
"""Side in pixels of what a network of dynamic input size is given; U2-Net's own."""

EXPECTED = (
    "expected an ONNX saliency network with one float32 image input (1, 3, H, W) "
    "whose first output is a one-channel map (1, 1, H, W)"
)


def compute_saliency(
    photo: np.ndarray, regions: np.ndarray, config: SaliencyConfig, network: "OnnxSaliency | None" = None
) -> np.ndarray:
    """Saliency of one photo as (H, W) uint8, 0 (background) to 255 (most salient).

    `photo` is (H, W, 3) uint8 RGB, `regions` (H, W) integer with ids 0..R-1, all used. With `network` the map is the
    network's and `regions` is not looked at; loading `config.network` is the caller's, once per process.
    """
    saliency = network(photo) if network else region_saliency(photo, regions, config)[regions]
    return (saliency * 255).round().astype(np.uint8)


def region_saliency(photo: np.ndarray, regions: np.ndarray, config: SaliencyConfig) -> np.ndarray:
    """Saliency of each region by robust background detection: (R,) float32, from 0 to 1 within the photo.

    `photo` is (H, W, 3) uint8 RGB, `regions` (H, W) integer with ids 0..R-1, all used. All zero where nothing stands
    out: one region, one colour. Needs memory for a few (R, R) float64 arrays.
    """
    area = np.bincount(regions.ravel())  # (R,) pixels
    count = len(area)
    if count == 1:
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
    foreground = _stretched(contrast)
    affinity = (_gaussian(distance[pairs], config.sigma_color) + config.mu) * length / length.mean()  # eq. 10
    return _stretched(_optimum(background, foreground, area / area.mean(), pairs, affinity)).astype(np.float32)


def _background(
    regions: np.ndarray,
    area: np.ndarray,
    pairs: tuple[np.ndarray, np.ndarray],
    distance: np.ndarray,
    config: SaliencyConfig,
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
    optimum: np.ndarray = spsolve((diags_array(diagonal) - links).tocsc(), weight * foreground)
    return optimum


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


def _gaussian(distance: np.ndarray, sigma: float) -> np.ndarray:
    falloff: np.ndarray = np.exp(-(distance**2) / (2 * sigma**2))
    return falloff


def _stretched(values: np.ndarray) -> np.ndarray:
    """Values scaled linearly to 0..1; all 0 where they differ by rounding only."""
    low, high = values.min(), values.max()
    if high - low < 1e-6:
        return np.zeros_like(values)
    stretched: np.ndarray = (values - low) / (high - low)
    return stretched


class OnnxSaliency:
    """A saliency network from an ONNX file, in the manner of U2-Net and IS-Net; runs on one CPU thread.

    The network has one float32 image input (1, 3, H, W), RGB, normalized as (photo / 255 - `mean`) / `std`; a dynamic
    size is run at DYNAMIC_SIDE. Its first output is a one-channel map, as logits or probabilities; others are ignored.
    It is run once here, so a file that is no such network fails before the first photo.
    Raises ConfigError, naming the file and what was expected.
    """

    def __init__(
        self, path: Path, mean: tuple[float, ...] = IMAGENET_MEAN, std: tuple[float, ...] = IMAGENET_STD
    ) -> None:
        from tagmask.session import open_session  # ONNX Runtime, which the unsupervised saliency does without

        self.path, self._mean, self._std = path, np.asarray(mean, np.float32), np.asarray(std, np.float32)
        try:
            self._session = open_session(path, device="cpu", threads=1)
            self._input, self._size = self._image_input()
            self(np.zeros((*self._size, 3), np.uint8))
        except ConfigError:
            raise
        except Exception as fault:  # ONNX Runtime has a dozen exceptions without a common base
            reason = " ".join(str(fault.__cause__ or fault).split())
            raise ConfigError(f"{path}: cannot be run ({reason}); {EXPECTED}") from fault

    def __call__(self, photo: np.ndarray) -> np.ndarray:
        """Saliency of an RGB photo (H, W, 3) uint8 as (H, W) float32, from 0 to 1 within the photo.

        All zero where the network's map is flat. Raises ConfigError for a map that is not finite.
        """
        height, width = self._size
        scaled = Image.fromarray(photo).resize((width, height), Image.Resampling.BILINEAR)
        image = (np.asarray(scaled, np.float32) / 255 - self._mean) / self._std  # (h, w, 3)
        output = np.asarray(self._session.run(None, {self._input: image.transpose(2, 0, 1)[None]})[0])
        if output.ndim < 3 or output.size != output.shape[-2] * output.shape[-1]:
            raise ConfigError(f"{self.path}: its first output is {output.shape}; {EXPECTED}")
        if not np.isfinite(output).all():
            raise ConfigError(f"{self.path}: gives values that are not finite; use another network")
        saliency = Image.fromarray(output.reshape(output.shape[-2:]).astype(np.float32))
        size = (photo.shape[1], photo.shape[0])
        return _stretched(np.asarray(saliency.resize(size, Image.Resampling.BILINEAR)))

    def _image_input(self) -> tuple[str, tuple[int, int]]:
        """Name and (height, width) in pixels of the only input; ConfigError where it takes no such photo."""
        inputs = self._session.get_inputs()
        shape = inputs[0].shape if len(inputs) == 1 else []
        fixed = [side if isinstance(side, int) and side > 0 else None for side in shape]
        if len(fixed) != 4 or fixed[0] not in (None, 1) or fixed[1] not in (None, 3):
            found = ", ".join(f"{one.type} {one.shape}" for one in inputs)
            raise ConfigError(f"{self.path}: its input is {found or 'absent'}; {EXPECTED}")
        return inputs[0].name, (fixed[2] or DYNAMIC_SIDE, fixed[3] or DYNAMIC_SIDE)
