from pathlib import Path

import pytest

from tests.training.datasets.writers.masked import masked
from training.datasets.photos import TaggedPhotos


@pytest.fixture
def data(tmp_path: Path) -> TaggedPhotos:
    """Photos with usual and odd masks."""
    return masked(tmp_path / "data")
