"""The region tagger on photos that were taken in another place for each tag, so that all of a photo tells its tag."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tagmask import files
from training.config import load_config
from training.datasets.photos import Photo, TaggedPhotos
from training.evaluation.metrics import Confusion
from training.stages import superpixels
from training.stages.evidence import Evidence
from training.stages.localization import features_file
from training.stages.network import TrainingContext
from training.stages.regiontagger import RegionTaggerTraining, read_odds, weights_file
from training.stages.saliency import Saliency

CLASSES = ("cat", "owl")
CONFIG = load_config(overrides={"regiontagger.width": 64, "regiontagger.fit.learning_rate": 0.01})


def make_run(run: Path, told: float) -> tuple[TaggedPhotos, list[np.ndarray]]:
    """Photos of 8 x 10 superpixels, whose features tell what each shows and, by `told`, where the photo was taken.

    Also what each superpixel shows, (8, 10) uint8.
    """
    random, photos, truths = np.random.default_rng(0), [], []
    for number in range(40):
        label = number % 2
        photo, truth = Photo(str(number), Path(), (CLASSES[label],)), np.zeros((8, 10), dtype=np.uint8)
        top, left = random.integers(0, 5), random.integers(0, 7)
        truth[top : top + 4, left : left + 3] = label + 1
        superpixels.write(superpixels.Superpixels.file_of(photo, run), np.arange(80).reshape(8, 10))
        files.write_png(Saliency.file_of(photo, run), Image.fromarray(np.zeros((8, 10), dtype=np.uint8)))
        shown, place = np.eye(3)[truth.reshape(-1)], np.tile(np.eye(2)[label], (80, 1))
        features = np.hstack([shown + random.normal(0, 0.3, shown.shape), told * place])
        files.write_array(features_file(photo, run, 0), features.astype(np.float16))
        photos.append(photo)
        truths.append(truth)
    return TaggedPhotos(Path(), CLASSES, tuple(photos)), truths


def evidence_miou(data: TaggedPhotos, truths: list[np.ndarray], run: Path) -> float:
    """The mIoU of the evidence, 0..100."""
    stage, total = Evidence.of(CONFIG, 1), Confusion(3)
    network = stage.load(run, "cpu")
    for photo, truth in zip(data.photos, truths, strict=True):
        stage.run(photo, run, CLASSES, network)
        total.add(stage.mask(photo, run, CLASSES), truth)
    return total.miou()


def test_where_all_of_a_photo_tells_its_tag_what_stands_out_in_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    data, truths = make_run(tmp_path, told=3)
    training, context = RegionTaggerTraining.of(CONFIG, 1), TrainingContext(data, tmp_path, "cpu")
    with monkeypatch.context() as without:
        without.setattr("training.stages.regiontagger.BACKDROP", 1)
        assert training.train(context) is not None
    before = evidence_miou(data, truths, tmp_path)
    assert training.train(context) is not None  # goes on where the first training ended
    assert read_odds(tmp_path, 1).border_share > 0.9
    assert evidence_miou(data, truths, tmp_path) > before + 8
    assert training.train(context) is None


def test_where_things_tell_their_tag_the_first_training_counts(tmp_path: Path):
    data, truths = make_run(tmp_path, told=0)
    assert RegionTaggerTraining.of(CONFIG, 1).train(TrainingContext(data, tmp_path, "cpu")) is not None
    assert not weights_file(tmp_path, 1, contrast=True).exists()
    assert read_odds(tmp_path, 1).border_share < 0.3
    assert evidence_miou(data, truths, tmp_path) > 60
