"""Tagged photos: the words every reader and every stage share."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pi_heif
from PIL import Image, ImageOps, UnidentifiedImageError

from tagmask.errors import DataError

pi_heif.register_heif_opener()  # what phones take; Pillow reads all else by itself

MAX_PIXELS = 100_000_000
"""Photos with more pixels than this are refused from their header alone, before decoding."""


@dataclass(frozen=True)
class Photo:
    """One photo and what it is said to show.

    `id` is unique in its data set: the path below the data set's photo folder, without suffix, with `/` between parts
    ("2007_000063", "cat/ca1"). Every stage names its output for the photo by it. `tags` are sorted and hold learned
    classes only. `mask` is a ground-truth mask for measuring, never for training.
    """

    id: str
    path: Path
    tags: tuple[str, ...]
    mask: Path | None = None

    def labels(self, classes: Sequence[str]) -> tuple[int, ...]:
        """Labels that the photo can hold when `classes` are learned: 0 (background) and one per tag, ascending."""
        return (0, *sorted(classes.index(tag) + 1 for tag in self.tags))


@dataclass(frozen=True)
class Fault:
    """One thing wrong with one photo, list line or mask, in words: `where` names it, `why` says what and the remedy."""

    where: str
    why: str


@dataclass(frozen=True)
class TaggedPhotos:
    """A data set: photos in order of id, and the classes that are learned from their tags.

    `classes` holds the foreground classes alone, in the order of the model's labels 1, 2, …; label 0 is background.
    `mask_classes` names the values of the ground-truth masks (position = value, 0 = background); empty without masks.
    `faults` lists what was left out or ignored while reading.
    """

    root: Path
    classes: tuple[str, ...]
    photos: tuple[Photo, ...]
    mask_classes: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()

    def labels(self, photo: Photo) -> tuple[int, ...]:
        """Labels that `photo` can hold: 0 (background) and one per tag, ascending."""
        return photo.labels(self.classes)

    def photos_per_class(self) -> dict[str, int]:
        """Photos that carry each class, in the order of `classes`."""
        tagged = Counter(tag for photo in self.photos for tag in photo.tags)
        return {name: tagged[name] for name in self.classes}

    def digest(self) -> str:
        """SHA-256 hex digest of classes, ids, tags and photo bytes: equal data sets have equal digests anywhere."""
        total = hashlib.sha256("\0".join(self.classes).encode())
        for photo in self.photos:
            content = hashlib.sha256(photo.path.read_bytes()).hexdigest()
            total.update(f"\n{photo.id}\0{' '.join(photo.tags)}\0{content}".encode())
        return total.hexdigest()


def read_photo(path: Path, long_side: int | None = None) -> np.ndarray:
    """Read a photo as it is displayed: (H, W, 3) uint8 RGB, EXIF orientation applied, alpha composed on white.

    With `long_side` (pixels) a larger photo is scaled down so that its longer side has that length.
    Raises DataError, naming the file, for anything that cannot be decoded or has more than MAX_PIXELS pixels.
    """
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                limit = MAX_PIXELS // 1_000_000
                raise DataError(
                    f"{path}: {image.width}x{image.height} pixels, more than {limit} million; scale it down"
                )
            if long_side:
                image.draft("RGB", (long_side, long_side))
            rgb = _on_white(ImageOps.exif_transpose(image))
    except DataError:
        raise
    except FileNotFoundError as fault:
        raise DataError(f"{path}: the photo is not there; put it back or remove it from the list") from fault
    except UnidentifiedImageError as fault:
        raise DataError(f"{path}: not a readable photo (no known image format); replace or remove it") from fault
    except Exception as fault:  # Pillow's decoders raise OSError, ValueError, SyntaxError, struct.error and more
        raise DataError(f"{path}: not a readable photo ({fault}); replace or remove it") from fault
    if long_side and max(rgb.size) > long_side:
        rgb = rgb.resize(scaled_size(rgb.size, long_side), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.array(rgb)


def scaled_size(size: tuple[int, int], long_side: int) -> tuple[int, int]:
    """The (a, b) size in pixels whose longer side is `long_side`, in the proportions of `size`, no side below 1."""
    scale = long_side / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, dtype=np.float32)
        scale = 255 / 65535 if values.max(initial=0) > 255 else 1
        return Image.fromarray((values * scale).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")
