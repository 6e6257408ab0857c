"""Small painted photos and masks."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.training.datasets.masked import masked
from training.datasets.photos import TaggedPhotos

Paint = Callable[..., Path]


@pytest.fixture
def paint() -> Paint:
    """Write a photo of `size` (width, height) at a path, different for each `seed`."""

    def painted(path: Path, size: tuple[int, int] = (12, 8), seed: int = 0) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        return path

    return painted


@pytest.fixture
def paint_mask() -> Paint:
    """Write a palette mask of `size` (width, height) whose pixels hold `values`, repeated."""

    def painted(path: Path, size: tuple[int, int] = (12, 8), values: tuple[int, ...] = (0, 1, 255)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        mask = Image.fromarray(np.resize(np.array(values, dtype=np.uint8), (size[1], size[0])))
        mask.putpalette([level for value in range(256) for level in (value, 0, 255 - value)])
        mask.save(path)
        return path

    return painted


@pytest.fixture
def data(tmp_path: Path) -> TaggedPhotos:
    """Photos with usual and odd masks."""
    return masked(tmp_path / "data")
