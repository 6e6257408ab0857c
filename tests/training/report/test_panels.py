from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tagmask.errors import DataError, RunError
from tagmask.masks import read_mask, write_mask
from tagmask.photos import read_photo
from tests.training.conftest import Tagged
from training.config import TrainConfig
from training.report.panels import GAP, draw_strip
from training.run.layout import Layout
from training.stages.base import PhotoStage
from training.stages.labels import Labels
from training.stages.saliency import Saliency
from training.stages.seeds import Seeds
from training.stages.superpixels import Superpixels


def test_a_picture_shows_the_photo_first_and_only_the_stages_that_are_there(tmp_path: Path, tagged: Tagged):
    data, layout, config = tagged(1), Layout(tmp_path / "run"), TrainConfig()
    (photo,) = data.photos
    for kind in (Superpixels, Saliency):
        kind.of(config, 0).prepare(layout.root, data.classes)(photo)
    pixels = read_photo(photo.path)
    height, width = pixels.shape[:2]

    before = draw_strip(photo, layout, config, data.classes)
    assert before.shape == (height, 3 * (width + GAP) - GAP, 3)
    np.testing.assert_array_equal(before[:, :width], pixels)

    assert photo.mask is not None
    write_mask(Labels.file_of(photo, layout.root, 1), read_mask(photo.mask))
    after = draw_strip(photo, layout, config, data.classes)
    assert after.shape == (2 * (height + GAP) - GAP, 3 * (width + GAP) - GAP, 3)
    panel = after[height + GAP :, :width]
    changed = (panel != pixels).any(axis=2)
    assert changed[read_mask(photo.mask) == 1].all()
    assert (after[height + GAP :, width + GAP :] == 255).all()


def test_a_photo_that_was_turned_since_is_named(tmp_path: Path, tagged: Tagged):
    data, layout, config = tagged(1), Layout(tmp_path / "run"), TrainConfig()
    (photo,) = data.photos
    Superpixels.of(config, 0).prepare(layout.root, data.classes)(photo)
    Image.fromarray(np.rot90(read_photo(photo.path))).save(photo.path)
    with pytest.raises(DataError, match="has another size than when the training began"):
        draw_strip(photo, layout, config, data.classes)


@pytest.mark.parametrize("kind", [Superpixels, Seeds])
def test_a_photo_whose_files_are_damaged_is_named(tmp_path: Path, tagged: Tagged, kind: type[PhotoStage]):
    data, layout, config = tagged(1), Layout(tmp_path / "run"), TrainConfig()
    (photo,) = data.photos
    Superpixels.of(config, 0).prepare(layout.root, data.classes)(photo)
    damaged = kind.file_of(photo, layout.root, int(kind is Seeds))
    damaged.parent.mkdir(parents=True, exist_ok=True)
    damaged.write_bytes(b"")
    with pytest.raises(RunError, match=r"run: files of photo 00 are missing or damaged; train again$"):
        draw_strip(photo, layout, config, data.classes)
