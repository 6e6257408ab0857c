"""Saliency: how much each pixel stands out, whatever its class; the prior of the evidence.

Unsupervised by default, so that tags stay the only supervision: `training.stages.background_detection`. Any ONNX
saliency network can take its place (`training.networks.saliency`). Most are trained on pixel labels: a result that used
one says so. How photos are normalized for it is chosen once, before the first photo.

Reads the photo and superpixels. Writes saliency/ID.png, 8-bit; with a network also saliency/normalization.json, a
`Choice`.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel, Field, TypeAdapter

from tagmask import files
from tagmask.photos import read_photo
from tagmask.wording import count
from training.datasets.photos import Photo, TaggedPhotos
from training.networks.normalization import NORMALIZATIONS, TRIED, Choice
from training.networks.saliency import OnnxSaliency
from training.stages import superpixels
from training.stages.base import PhotoStage

TRIAL_PHOTOS = 8
"""Most photos on which normalizations are tried for a network of unknown family."""


class SaliencyConfig(BaseModel, frozen=True, extra="forbid"):
    """The numbers are the paper's; they are not used if `network` is set."""

    sigma_color: float = Field(10, ge=1, le=100, description="Lab units above which two colours differ (eq. 3, 10)")
    sigma_spatial: float = Field(0.25, ge=0.05, le=10, description="reach of contrast, share of the side (eq. 6)")
    sigma_boundary_connectivity: float = Field(
        1, ge=0.01, le=100, description="boundary connectivity above which a region is background (eq. 8)"
    )
    mu: float = Field(0.1, ge=0.001, le=10, description="least smoothing between neighbours, against clutter (eq. 10)")
    network: Path | None = Field(None, description="ONNX saliency network to use instead; most learned from masks")
    normalization: Literal["auto", "imagenet", "u2net", "isnet", "symmetric", "unit"] = Field(
        "auto", description="how photos are normalized for `network`; auto: by the file, its family, or a trial"
    )


@dataclass(frozen=True)
class Saliency(PhotoStage):
    """Writes how much each pixel of a photo stands out."""

    long_side: int
    settings: SaliencyConfig

    name = "saliency"
    reads = ((0, "superpixels"),)
    tagged = False

    def files(self) -> tuple[Path, ...]:
        return (self.settings.network,) if self.settings.network else ()

    def begin(self, data: TaggedPhotos, run: Path) -> dict[str, Any]:
        """Choose the normalization for a network, unless an earlier run did: {"normalization": its name, "why"}."""
        if self.settings.network is None:
            return {}
        path = self.folder(run) / CHOICE
        if not path.is_file():
            choice = self._choose(self.settings.network, data, run)
            files.write_text(path, json.dumps(asdict(choice)) + "\n")
        choice = _CHOICE.validate_json(path.read_bytes())
        return {"normalization": choice.name, "why": choice.why}

    def run(self, photo: Photo, run: Path, classes: tuple[str, ...], network: Any = None) -> None:
        pixels = read_photo(photo.path, self.long_side)
        regions = superpixels.read_for(pixels, photo, run)
        saliency = compute_saliency(pixels, regions, self.settings, self._network(run))
        files.write_png(self.file(photo, run), Image.fromarray(saliency))

    def _network(self, run: Path) -> Callable[[np.ndarray], np.ndarray] | None:
        if self.settings.network is None:
            return None
        choice = _CHOICE.validate_json((self.folder(run) / CHOICE).read_bytes())
        return partial(_open_network(self.settings.network), normalization=choice.normalization)

    def _choose(self, file: Path, data: TaggedPhotos, run: Path) -> Choice:
        name = self.settings.normalization
        if name != "auto":
            return Choice(name, NORMALIZATIONS[name], "set by saliency.normalization")
        network = OnnxSaliency(file)
        if known := network.known_normalization():
            return known
        photos = [photo for photo in data.photos if photo.tags]
        some = np.linspace(0, len(photos) - 1, min(TRIAL_PHOTOS, len(photos))).round().astype(int)
        pairs = []
        for photo in (photos[position] for position in some):
            pixels = read_photo(photo.path, self.long_side)
            regions = superpixels.read_for(pixels, photo, run)
            pairs.append((pixels, _unsupervised(pixels, regions, self.settings)))
        return try_normalizations(network, pairs)

    def picture(self, photo: Photo, pixels: np.ndarray, run: Path) -> np.ndarray:
        """White stands out."""
        grey = (read(photo, run) * 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)


CHOICE = "normalization.json"
_CHOICE = TypeAdapter(Choice)
_open_network = lru_cache(maxsize=1)(OnnxSaliency)  # loads a network once per process


def read(photo: Photo, run: Path) -> np.ndarray:
    """Saliency (H, W) float32, 0..1."""
    return np.array(files.read_png(Saliency.file_of(photo, run)), dtype=np.float32) / 255


def compute_saliency(
    photo: np.ndarray,
    regions: np.ndarray,
    config: SaliencyConfig,
    network: Callable[[np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    """Saliency of one photo as (H, W) uint8, 0 (background) to 255 (most salient).

    `photo` is (H, W, 3) uint8 RGB, `regions` (H, W) integer with ids 0..R-1, all used. With `network` the map is the
    network's and `regions` is not read.
    """
    saliency = network(photo) if network else _unsupervised(photo, regions, config)
    return (saliency * 255).round().astype(np.uint8)


def _unsupervised(photo: np.ndarray, regions: np.ndarray, config: SaliencyConfig) -> np.ndarray:
    """Saliency without a network: (H, W) float32, 0..1."""
    from training.stages.background_detection import region_saliency  # SciPy, which settings need not wait for

    return region_saliency(photo, regions, config)[regions]


def try_normalizations(network: OnnxSaliency, photos: Sequence[tuple[np.ndarray, np.ndarray]]) -> Choice:
    """The normalization with which a network of unknown family agrees best with unsupervised saliency.

    `photos` are pairs of a photo (H, W, 3) uint8 RGB and its unsupervised saliency (H, W), 0..1. Agreement is the
    correlation of the two maps, 0 where one is flat, averaged over photos.
    """
    agreement = {
        name: float(np.mean([_correlation(network(photo, NORMALIZATIONS[name]), guide) for photo, guide in photos]))
        for name in TRIED
    }
    best = max(TRIED, key=agreement.__getitem__)
    figures = ", ".join(f"{name} {agreement[name]:.2f}" for name in sorted(TRIED, key=agreement.__getitem__)[::-1])
    why = f"agrees best with unsupervised saliency on {count(len(photos), 'photo')}: {figures}"
    return Choice(best, NORMALIZATIONS[best], why)


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    flat = min(one.std(), other.std()) < 1e-6
    return 0.0 if flat else float(np.corrcoef(one.ravel(), other.ravel())[0, 1])
