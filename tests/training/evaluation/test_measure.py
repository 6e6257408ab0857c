from pathlib import Path

import cv2
import numpy as np
import pytest

from tagmask import files
from tagmask.masks import VOID, read_mask, write_mask
from tests.training.conftest import Tagged
from training.config import TrainConfig
from training.datasets.photos import Photo, TaggedPhotos
from training.evaluation import measure
from training.evaluation.metrics import Confusion, Counts
from training.stages import superpixels
from training.stages.base import MaskStage
from training.stages.class_maps import ClassMaps
from training.stages.evidence import Evidence
from training.stages.labels import Labels
from training.stages.localization import maps_file
from training.stages.masks import Masks
from training.stages.refinement import Refinement
from training.stages.regions import Regions
from training.stages.seeds import Seeds
from training.stages.superpixels import Superpixels


def truth_of(photo: Photo) -> np.ndarray:
    assert photo.mask is not None
    return read_mask(photo.mask)


def counts_of(photo: Photo, data: TaggedPhotos, run: Path, config: TrainConfig) -> Counts | None:
    stage = Labels.of(config, 1)
    return measure.stage_counts(photo, stage, run=run, classes=data.classes, mask_classes=data.mask_classes)


def test_true_values_become_the_models_labels():
    table = measure.truth_table(("background", "bird", "cat", "dog"), ("dog", "cat", "fish"))
    assert table.dtype == np.uint8
    assert table[[0, 1, 2, 3, 4, VOID]].tolist() == [0, VOID, 2, 1, VOID, VOID]


def test_a_perfect_stage_scores_perfectly_and_a_photo_without_truth_not_at_all(
    tmp_path: Path, tagged: Tagged, small: TrainConfig
):
    data, run = tagged(3), tmp_path / "run"
    total = Confusion(3)
    for photo in data.photos:
        write_mask(Labels.file_of(photo, run, 1), truth_of(photo))
        counts = counts_of(photo, data, run, small)
        assert counts is not None
        total.counts += counts
    assert total.miou() == 100
    assert total.counts.sum() == 3 * 80 * 64
    bare = Photo("bare", data.photos[0].path, ("cat",))
    assert counts_of(bare, data, run, small) is None


def test_a_smaller_mask_is_scored_at_the_size_of_the_truth(tmp_path: Path, tagged: Tagged, small: TrainConfig):
    data, run = tagged(1), tmp_path / "run"
    photo = data.photos[0]
    half = cv2.resize(truth_of(photo), (40, 32), interpolation=cv2.INTER_NEAREST)
    write_mask(Labels.file_of(photo, run, 1), half)
    counts = counts_of(photo, data, run, small)
    assert counts is not None
    assert counts.sum() == 80 * 64
    assert np.trace(counts) > 0.95 * counts.sum()


@pytest.mark.parametrize(
    ("kind", "number"), [(ClassMaps, 0), (Evidence, 0), (Seeds, 1), (Regions, 1), (Refinement, 1), (Masks, 1)]
)
def test_every_stage_can_be_looked_at_as_a_mask(
    tmp_path: Path, tagged: Tagged, small: TrainConfig, kind: type[MaskStage], number: int
):
    data, run = tagged(3), tmp_path / "run"
    for photo in data.photos:
        Superpixels.of(small, 0).prepare(run, data.classes)(photo)
        truth, labels = truth_of(photo), photo.labels(data.classes)
        regions = superpixels.read(photo, run)
        _, first = np.unique(regions, return_index=True)
        coarse = np.stack([np.where(truth[2::4, 2::4] == label, 0.9, 0.05) for label in labels])
        rows = np.stack([np.where(truth.reshape(-1)[first] == label, 0.9, 0.05) for label in labels], axis=1)
        for path, values in (
            (maps_file(photo, run, 0), coarse[1:]),
            (maps_file(photo, run, 1), coarse),
            (Evidence.file_of(photo, run), np.log(rows[:, 1:] / 0.3)),
            (Regions.file_of(photo, run, 1), rows),
            (Refinement.file_of(photo, run, 1), rows),
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, values.astype(np.float16))
        files.write_array(Seeds.file_of(photo, run, 1), truth.reshape(-1)[first])
        mask = kind.of(small, number).mask(photo, run, data.classes)
        assert (mask.shape, mask.dtype) == (truth.shape, np.uint8)
        assert (mask == truth).mean() > 0.9
