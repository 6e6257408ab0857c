"""DenseCRF over a photo's label probabilities, and its settings."""

import sys
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Self

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from tagmask.crf.worker import mean_field
from tagmask.errors import ConfigError
from tagmask.segmentation import Pixels, Planes


class CrfConfig(BaseModel, frozen=True):
    """DenseCRF's two pairwise terms and its mean-field steps, in the order of `mean_field`."""

    colour_spread: float = Field(5, ge=0.1, le=255, description="appearance kernel: colour distance, grey levels")
    space_spread: float = Field(80, ge=0.1, le=1000, description="appearance kernel: distance, pixels")
    colour_weight: float = Field(10, ge=0, le=100, description="appearance kernel: strength")
    smooth_spread: float = Field(3, ge=0.1, le=100, description="smoothness kernel: distance, pixels")
    smooth_weight: float = Field(3, ge=0, le=100, description="smoothness kernel: strength")
    steps: int = Field(5, ge=1, le=100, description="mean-field iterations")

    @classmethod
    def from_bundle(cls, settings: Mapping[str, object]) -> Self:
        """The settings under `crf` in a bundle's `settings`; the defaults if they are missing or invalid."""
        try:
            return cls.model_validate(settings.get("crf"))
        except ValidationError:
            return cls()

    @property
    def strengths(self) -> tuple[float, float, float, float, float, int]:
        """The arguments of `mean_field` after the probabilities."""
        spreads = self.colour_spread, self.space_spread
        return *spreads, self.colour_weight, self.smooth_spread, self.smooth_weight, self.steps


def dense_crf(photo: Pixels, probabilities: Planes, config: CrfConfig) -> Planes:
    """Label probabilities after mean-field inference: (L, h, w) float32, summing to 1 at each pixel.

    `photo` (h, w, 3) uint8 RGB, `probabilities` (L, h, w) float of the photo's L labels. Raises ConfigError without
    pydensecrf.
    """
    if len(probabilities) == 1:
        return np.ones_like(probabilities, dtype=np.float32)
    require_pydensecrf()
    writable = np.require(photo, np.uint8, ["C", "W"])  # pydensecrf takes no read-only memory
    return mean_field(writable, np.ascontiguousarray(probabilities), *config.strengths)


_INSTALL = "pip install 'tagmask[serve]'"
if sys.version_info >= (3, 13):  # which the Cython that pydensecrf2 asks for does not know
    _INSTALL = "pip install 'cython>=3.1' setuptools, then pip install --no-build-isolation pydensecrf2"


def has_pydensecrf() -> bool:
    """Whether pydensecrf is installed."""
    return find_spec("pydensecrf") is not None


def require_pydensecrf() -> None:
    """Raise ConfigError, saying how to install pydensecrf, where it is not installed."""
    if not has_pydensecrf():
        raise ConfigError(f"DenseCRF needs pydensecrf, which is not installed; run {_INSTALL}")
