"""Small tagged photos: a red disc is a cat, a blue square a dog, on a noisy green ground; with true masks."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from training.config import TrainConfig, load_config
from training.datasets.photos import Photo, TaggedPhotos

CLASSES = ("cat", "dog")
TAGS = (("cat",), ("dog",), ("cat", "dog"))

Tagged = Callable[..., TaggedPhotos]
Command = Callable[..., tuple[int, str, str]]


def draw(tags: tuple[str, ...], size: tuple[int, int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A photo (H, W, 3) uint8 RGB and its true mask (H, W) uint8; `size` is (width, height)."""
    width, height = size
    random = np.random.default_rng(seed)
    photo = np.full((height, width, 3), (90, 140, 80), dtype=np.uint8)
    mask = np.zeros((height, width), dtype=np.uint8)
    radius = height // 5
    if "cat" in tags:
        centre = (width // 4, int(random.integers(height // 3, height - height // 3)))
        cv2.circle(photo, centre, radius, (200, 40, 40), -1)
        cv2.circle(mask, centre, radius, 1, -1)
    if "dog" in tags:
        left, top = width * 5 // 8, int(random.integers(height // 5, height // 2))
        cv2.rectangle(photo, (left, top), (left + 2 * radius, top + 2 * radius), (40, 60, 190), -1)
        cv2.rectangle(mask, (left, top), (left + 2 * radius, top + 2 * radius), 2, -1)
    noisy = photo + random.integers(-8, 9, photo.shape)
    return noisy.clip(0, 255).astype(np.uint8), mask


def draw_photos(root: Path, count: int, size: tuple[int, int] = (80, 64)) -> TaggedPhotos:
    """Draw `count` photos of `size` (width, height) below `root`, tagged cat, dog, both and so on."""
    photos = []
    for index in range(count):
        tags = TAGS[index % len(TAGS)]
        photo, mask = draw(tags, size, index)
        path = root / "photos" / f"{index:02}.png"
        truth = root / "truth" / path.name
        for place, picture in ((path, photo), (truth, mask)):
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(place)
        photos.append(Photo(path.stem, path, tags, truth))
    return TaggedPhotos(root, CLASSES, tuple(photos), ("background", *CLASSES))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Two threads of networks as small as those of tests mostly wait for each other."""
    import torch  # here, as tests without torch import `draw_photos`

    torch.set_num_threads(1)


@pytest.fixture
def tagged(tmp_path: Path) -> Tagged:
    """`draw_photos` into the test's own folder."""
    return lambda count=3, size=(80, 64): draw_photos(tmp_path, count, size)


@pytest.fixture(scope="session")
def small() -> TrainConfig:
    """Settings for photos of about 80 pixels."""
    return load_config(
        overrides={
            "long_side": 80,
            "superpixels.min_size": 20,
            "classifier.fit.epochs": 1,
            "classifier.fit.batch": 2,
            "classifier.augment.crop": 64,
            "pixelnet.fit.epochs": 1,
            "pixelnet.fit.least_steps": 1,
            "pixelnet.later_fit.least_steps": 1,
            "pixelnet.fit.batch": 2,
            "pixelnet.width": 16,
            "pixelnet.augment.crop": 64,
        }
    )
