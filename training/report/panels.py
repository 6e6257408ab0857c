"""What the stages of a run made of a photo, as pictures to look at: a row a round, a panel a stage."""

from dataclasses import dataclass

import cv2
import numpy as np

from tagmask.formats.overlay import tint
from tagmask.photos import read_photo
from training.config import TrainConfig
from training.datasets.photos import Photo
from training.evaluation import measure
from training.run.layout import Layout
from training.stages import superpixels, work

GAP = 4
"""White pixels between panels."""

STAGES = {"seeds": "seeds", "regions": "regions", "refined": "refined", "labels": "labels", "mask": "maps"}
"""Panels of a round, and what `training.evaluation.measure.stage_mask` calls their stages."""


@dataclass(frozen=True)
class Panel:
    """What one stage made of a photo: the stage's name, and (H, W, 3) uint8 RGB."""

    name: str
    pixels: np.ndarray


def strip(photo: Photo, layout: Layout, config: TrainConfig, classes: tuple[str, ...]) -> np.ndarray:
    """All that is there of `photo`, a row below the other: (H, W, 3) uint8 RGB; see `panels`."""
    return _stacked([row for row in panels(photo, layout, config, classes) if row])


def panels(photo: Photo, layout: Layout, config: TrainConfig, classes: tuple[str, ...]) -> list[list[Panel]]:
    """All that is there of `photo`: a list for what comes before the rounds, and one for each round.

    The first has the photo, its superpixels, its saliency and the tag classifier's map; then each round has its
    seeds, regions, refined regions, training labels and PixelNet's mask. Colours are those of masks, void is cream;
    a stage that has not been reached is left out. Raises DataError for a photo that cannot be read.
    """
    pixels = read_photo(photo.path, config.long_side)
    rows = [_before(photo, pixels, layout)]
    for number in range(1, config.rounds + 1):
        row = [_panel(photo, pixels, name, layout, number, classes) for name in STAGES]
        rows.append([panel for panel in row if panel is not None])
    return rows


def _before(photo: Photo, pixels: np.ndarray, layout: Layout) -> list[Panel]:
    row = [Panel("photo", pixels)]
    if layout.superpixels(photo.id).is_file():
        row.append(Panel("superpixels", _outlined(pixels, superpixels.read(layout.superpixels(photo.id)))))
    if layout.saliency(photo.id).is_file():
        row.append(Panel("saliency", _grey(layout, photo)))
    if layout.round(0).maps(photo.id).is_file():
        row.append(Panel("class map", _heat(pixels, work.painted_class_maps(photo, layout)[1:].max(axis=0))))
    return row


def _panel(
    photo: Photo, pixels: np.ndarray, name: str, layout: Layout, number: int, classes: tuple[str, ...]
) -> Panel | None:
    here = layout.round(number)
    written = {"seeds": here.seeds, "regions": here.regions, "refined": here.refined, "labels": here.labels}
    if not written.get(name, here.maps)(photo.id).is_file():
        return None
    mask = measure.stage_mask(photo, STAGES[name], layout=layout, number=number, classes=classes)
    return Panel(name, tint(pixels, mask))


def _outlined(pixels: np.ndarray, regions: np.ndarray) -> np.ndarray:
    picture = pixels.copy()
    edge = np.zeros(regions.shape, dtype=bool)
    edge[1:] |= regions[1:] != regions[:-1]
    edge[:, 1:] |= regions[:, 1:] != regions[:, :-1]
    picture[edge] = (255, 255, 0)
    return picture


def _grey(layout: Layout, photo: Photo) -> np.ndarray:
    saliency = (work.read_saliency(layout, photo) * 255).astype(np.uint8)
    return np.repeat(saliency[..., None], 3, axis=2)


def _heat(pixels: np.ndarray, strength: np.ndarray) -> np.ndarray:
    colours = cv2.applyColorMap((strength * 255).astype(np.uint8), cv2.COLORMAP_JET)[..., ::-1]
    return (0.5 * pixels + 0.5 * colours).astype(np.uint8)


def _stacked(rows: list[list[Panel]]) -> np.ndarray:
    height, width = rows[0][0].pixels.shape[:2]
    columns = max(len(row) for row in rows)
    picture = np.full((len(rows) * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), 255, dtype=np.uint8)
    for y, row in enumerate(rows):
        for x, panel in enumerate(row):
            top, left = y * (height + GAP), x * (width + GAP)
            picture[top : top + height, left : left + width] = panel.pixels
    return picture
