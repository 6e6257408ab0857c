"""Some photos stage by stage, as small pictures inside the page."""

import base64
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import cv2
from PIL import Image

from tagmask.formats.overlay import tint
from tagmask.masks import read_mask
from training.config import TrainConfig
from training.datasets.photos import Photo, TaggedPhotos
from training.evaluation.measure import truth_table
from training.report import panels
from training.report.measured import UNREADABLE
from training.run.layout import Layout
from training.stages import EACH_ROUND

PHOTOS = 24
"""Photos shown by default."""

MAX_BYTES = 3_500_000
"""Greatest total size of the pictures, base64-encoded; photos that would exceed it are left out."""

SIDE = 224
"""Greatest width and height of a picture, pixels."""

QUALITY = 70


@dataclass(frozen=True)
class Picture:
    """One panel in the page: its stage, its column from 0, and the picture as a data URI, `width` x `height` pixels."""

    name: str
    column: int
    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Strip:
    """A photo's panels: those from before the rounds, then those of each round from 1."""

    photo: Photo
    rows: tuple[tuple[Picture, ...], ...]

    @property
    def columns(self) -> int:
        return 1 + max(picture.column for row in self.rows for picture in row)


def select(photos: Sequence[Photo], scores: Mapping[str, float], most: int) -> list[Photo]:
    """At most `most` photos, the worst first: half of them the worst of all, the others spread evenly over the rest.

    `scores` by id, low is bad; photos without a score come last. Equal scores are ordered by the digest of the id.
    """

    def rank(photo: Photo) -> tuple[float, bytes]:
        return scores.get(photo.id, float("inf")), hashlib.sha256(photo.id.encode()).digest()

    ranked = sorted(photos, key=rank)
    worst, rest = ranked[: (most + 1) // 2], ranked[(most + 1) // 2 :]
    more = most - len(worst)
    if len(rest) <= more:
        return ranked
    return worst + [rest[(index + 1) * len(rest) // more - 1] for index in range(more)]


def draw_strips(photos: Sequence[Photo], data: TaggedPhotos, layout: Layout, config: TrainConfig) -> Iterator[Strip]:
    """The strips of those `photos` that can be drawn, until MAX_BYTES are reached."""
    size = 0
    for photo in photos:
        try:
            strip = _strip(photo, data, layout, config)
        except UNREADABLE:
            continue
        size += sum(len(picture.uri) for row in strip.rows for picture in row)
        if size > MAX_BYTES:
            return
        yield strip


def _strip(photo: Photo, data: TaggedPhotos, layout: Layout, config: TrainConfig) -> Strip:
    before, *rounds = panels.draw_panels(photo, layout, config, data.classes)
    if photo.mask is not None:
        pixels = before[0].pixels
        truth = truth_table(data.mask_classes, data.classes)[read_mask(photo.mask)]
        truth = cv2.resize(truth, pixels.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        before.insert(1, panels.Panel("true mask", tint(pixels, truth)))
    drawn = {panel.name for row in rounds for panel in row}
    names = [stage.name for stage in EACH_ROUND if stage.name in drawn]
    rows = [tuple(embed(panel, column) for column, panel in enumerate(before))]
    rows += [tuple(embed(panel, names.index(panel.name)) for panel in row) for row in rounds]
    return Strip(photo, tuple(rows))


def embed(panel: panels.Panel, column: int) -> Picture:
    """The panel scaled down to SIDE, as WebP inside the page."""
    height, width = panel.pixels.shape[:2]
    scale = min(1.0, SIDE / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    buffer = io.BytesIO()
    small = cv2.resize(panel.pixels, size, interpolation=cv2.INTER_AREA)
    Image.fromarray(small).save(buffer, "WEBP", quality=QUALITY, method=4)
    uri = f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return Picture(panel.name, column, uri, *size)
