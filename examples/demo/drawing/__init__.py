"""A tagged data set that is drawn rather than photographed: no licence, no download, the same bytes for the same seed.

    tags.csv        image,tags,split: one line per photo, split train or val (every fourth)
    images/0000.jpg the photos
    masks/0000.png  the ground-truth masks, for evaluation only
    classes.txt     names of the mask values, background first
    demo.json       settings of the drawing

Two photos in three show one object, the others two of any class, so a quarter of all photos have two tags.
"""

import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from examples.demo.drawing.picture import draw
from examples.demo.drawing.things import THINGS
from tagmask.errors import ConfigError, DataError
from tagmask.files import atomic_write, write_text
from tagmask.masks import BACKGROUND, write_mask
from tagmask.progress import Advance, silent

DEMO_CLASSES = tuple(THINGS)
SETTINGS = "demo.json"
DRAWING = 1
"""Version of the drawing: if it changes, existing data sets are redrawn."""

MIN_PHOTOS = 4 * len(DEMO_CLASSES)
"""With fewer, a class would have no val photo."""

MIN_SIZE = 48
"""Minimum side in pixels; thin parts disappear below it."""

TWO_THINGS = 1 / 3
"""Share of the photos that show two objects; in a quarter of these both are of the same class."""


def make_demo_photos(
    root: Path,
    *,
    photos: int = 240,
    size: int = 192,
    seed: int = 0,
    advance: Advance = silent,
) -> int:
    """Draw `photos` photos of `size` x `size` pixels below `root`; returns how many were drawn.

    An interrupted drawing is resumed; a data set with other settings is replaced. `advance(n)` is called when n more
    photos are done. Raises ConfigError for fewer than MIN_PHOTOS photos or MIN_SIZE pixels, and DataError when `root`
    holds anything but a demo data set.
    """
    for name, value, minimum in (("photos", photos, MIN_PHOTOS), ("size", size, MIN_SIZE)):
        if value < minimum:
            raise ConfigError(f"{name}: {value} is below {minimum}, the minimum for a demo data set")
    _claim(root, {"photos": photos, "size": size, "seed": seed, "drawing": DRAWING})
    drawn, lines = 0, ["image,tags,split"]
    for index in range(photos):
        rng = np.random.default_rng([seed, index])
        things = _things(index, rng)
        image, mask = root / "images" / f"{index:04}.jpg", root / "masks" / f"{index:04}.png"
        if not (image.is_file() and mask.is_file()):
            _write(image, mask, things, size, rng)
            drawn += 1
        split = "val" if index % 4 == 3 else "train"
        lines.append(f"images/{image.name},{' '.join(sorted(set(things)))},{split}")
        advance(1)
    write_text(root / "classes.txt", "\n".join((BACKGROUND, *DEMO_CLASSES, "")))
    write_text(root / "tags.csv", "\n".join((*lines, "")))
    return drawn


def _claim(root: Path, settings: dict[str, int]) -> None:
    """Prepare `root` for a demo data set with these settings, and remove one with others."""
    text = json.dumps(settings) + "\n"
    path = root / SETTINGS
    if path.is_file():
        if path.read_text(encoding="utf-8", errors="replace") == text:
            return
        for folder in ("images", "masks"):
            shutil.rmtree(root / folder, ignore_errors=True)
        (root / "tags.csv").unlink(missing_ok=True)
    elif root.is_file() or (root.is_dir() and any(root.iterdir())):
        raise DataError(f"{root}: contains something other than a demo data set; use a new or empty folder")
    write_text(path, text)


def _things(index: int, rng: np.random.Generator) -> tuple[str, ...]:
    """The classes of the objects in photo `index`, back to front; each leads equally often in each split."""
    first = DEMO_CLASSES[(index + index // 4) % len(DEMO_CLASSES)]
    return (str(rng.choice(DEMO_CLASSES)), first) if rng.uniform() < TWO_THINGS else (first,)


def _write(image: Path, mask: Path, things: tuple[str, ...], size: int, rng: np.random.Generator) -> None:
    pixels, places = draw(things, size, rng)
    values = np.array([0, *(DEMO_CLASSES.index(name) + 1 for name in things)], dtype=np.uint8)
    write_mask(mask, values[places])
    with atomic_write(image) as file:
        Image.fromarray(pixels).save(file, format="JPEG", quality=92)
