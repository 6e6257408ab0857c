"""What the stages of a run made of a photo, as one picture to look at: a row a round, a panel a stage."""

import cv2
import numpy as np

from training import masks, measure, stages, superpixels
from training.config import TrainConfig
from training.data.photos import Photo, read_photo
from training.layout import Layout

GAP = 4
"""White pixels between panels."""

STAGES = ("seeds", "regions", "refined", "labels", "maps")


def strip(photo: Photo, layout: Layout, config: TrainConfig, classes: tuple[str, ...]) -> np.ndarray:
    """All that is there of `photo`: (H, W, 3) uint8 RGB.

    The first row has the photo, its superpixels, its saliency and the tag classifier's map; then each round has its
    seeds, regions, refined regions, training labels and PixelNet's mask. Colours are those of masks, void is cream;
    a stage that has not been reached is left out.
    """
    pixels = read_photo(photo.path, config.long_side)
    regions = superpixels.read(layout.superpixels(photo.id))
    first = [pixels, _outlined(pixels, regions), _grey(layout, photo)]
    if layout.round(0).maps(photo.id).is_file():
        first.append(_heat(pixels, stages.painted_class_maps(photo, layout)[1:].max(axis=0)))
    rows = [first]
    for number in range(1, config.rounds + 1):
        row = [_panel(photo, pixels, stage, layout, number, classes) for stage in STAGES]
        rows.append([panel for panel in row if panel is not None])
    return _stacked([row for row in rows if row])


def _panel(
    photo: Photo, pixels: np.ndarray, stage: str, layout: Layout, number: int, classes: tuple[str, ...]
) -> np.ndarray | None:
    here = layout.round(number)
    written = {"seeds": here.seeds, "regions": here.regions, "refined": here.refined, "labels": here.labels}
    if not written.get(stage, here.maps)(photo.id).is_file():
        return None
    mask = measure.stage_mask(photo, stage, layout=layout, number=number, classes=classes)
    return masks.overlay(pixels, mask)


def _outlined(pixels: np.ndarray, regions: np.ndarray) -> np.ndarray:
    picture = pixels.copy()
    edge = np.zeros(regions.shape, dtype=bool)
    edge[1:] |= regions[1:] != regions[:-1]
    edge[:, 1:] |= regions[:, 1:] != regions[:, :-1]
    picture[edge] = (255, 255, 0)
    return picture


def _grey(layout: Layout, photo: Photo) -> np.ndarray:
    saliency = (stages.read_saliency(layout, photo) * 255).astype(np.uint8)
    return np.repeat(saliency[..., None], 3, axis=2)


def _heat(pixels: np.ndarray, strength: np.ndarray) -> np.ndarray:
    colours = cv2.applyColorMap((strength * 255).astype(np.uint8), cv2.COLORMAP_JET)[..., ::-1]
    return (0.5 * pixels + 0.5 * colours).astype(np.uint8)


def _stacked(rows: list[list[np.ndarray]]) -> np.ndarray:
    height, width = rows[0][0].shape[:2]
    columns = max(len(row) for row in rows)
    picture = np.full((len(rows) * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), 255, dtype=np.uint8)
    for y, row in enumerate(rows):
        for x, panel in enumerate(row):
            top, left = y * (height + GAP), x * (width + GAP)
            picture[top : top + height, left : left + width] = panel
    return picture
