"""The results of a run's stages for one photo, as pictures: a row per round, a panel per stage."""

from dataclasses import dataclass

import numpy as np

from tagmask.formats.overlay import tint
from tagmask.photos import read_photo
from training.config import TrainConfig
from training.datasets.photos import Photo
from training.evaluation.run_files import run_files
from training.run.layout import Layout
from training.run.plan import round_stages
from training.stages.base import MaskStage, PhotoStage

GAP = 4
"""White pixels between panels."""


@dataclass(frozen=True)
class Panel:
    """The result of one stage for a photo: the stage's name, and (H, W, 3) uint8 RGB."""

    name: str
    pixels: np.ndarray


def draw_strip(photo: Photo, layout: Layout, config: TrainConfig, classes: tuple[str, ...]) -> np.ndarray:
    """All panels of `photo`, a row below the other: (H, W, 3) uint8 RGB; see `draw_panels`.

    Raises DataError for a photo that cannot be read, and RunError if a file of the run is missing or damaged.
    """
    with run_files(layout.root, photo):
        rows = [row for row in draw_panels(photo, layout, config, classes) if row]
    height, width = rows[0][0].pixels.shape[:2]
    columns = max(len(row) for row in rows)
    picture = np.full((len(rows) * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), 255, dtype=np.uint8)
    for y, row in enumerate(rows):
        for x, panel in enumerate(row):
            top, left = y * (height + GAP), x * (width + GAP)
            picture[top : top + height, left : left + width] = panel.pixels
    return picture


def draw_panels(photo: Photo, layout: Layout, config: TrainConfig, classes: tuple[str, ...]) -> list[list[Panel]]:
    """The panels of `photo`: a list for the stages before the rounds, the photo first, and one for each round.

    A panel is the stage's own picture, or the photo tinted by its mask, coloured like mask files with void in cream;
    stages that have not been reached are left out. Raises DataError for a photo that cannot be read.
    """
    pixels = read_photo(photo.path, config.long_side)
    rows: list[list[Panel]] = []
    for number in range(config.rounds + 1):
        rows.append([])
        for stage in round_stages(config, number):
            if isinstance(stage, PhotoStage) and stage.file(photo, layout.root).is_file():
                picture = stage.picture(photo, pixels, layout.root)
                if picture is None:
                    assert isinstance(stage, MaskStage), stage.name
                    picture = tint(pixels, stage.mask(photo, layout.root, classes))
                rows[-1].append(Panel(stage.name, picture))
    rows[0].insert(0, Panel("photo", pixels))
    return rows
