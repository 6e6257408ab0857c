"""Small photos with tags in the places that they come from."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flows.workspace import Workspace

Tagged = Mapping[str, str]


def jpeg(seed: int) -> bytes:
    """A photo of 12x8 pixels, different for each seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG")
    return data.getvalue()


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


@pytest.fixture
def photo() -> Callable[[int], bytes]:
    return jpeg


@pytest.fixture
def table(tmp_path: Path) -> Callable[[Tagged], Path]:
    """Write a CSV list of these photos, "3.jpg" is drawn with seed 3, and draw the missing ones."""

    def written(rows: Tagged, name: str = "tags.csv") -> Path:
        path = tmp_path / "source" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("image,tags\n" + "".join(f"{image},{tags}\n" for image, tags in rows.items()))
        for image in rows:
            if not (path.parent / image).exists():
                (path.parent / image).write_bytes(jpeg(int(Path(image).stem)))
        return path

    return written
