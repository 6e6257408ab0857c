"""What hints say of superpixels, and how it enters the evidence."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tagmask import files
from tagmask.corrections import Correction
from training.config import TrainConfig, load_config
from training.datasets.photos import Photo, TaggedPhotos
from training.evaluation.metrics import Confusion
from training.fitting.evidence_odds import LEVELS, RegionScores, level
from training.networks.regiontagger import RegionTagger
from training.stages import evidence, superpixels
from training.stages.evidence import Evidence
from training.stages.hint_evidence import hint_evidence
from training.stages.localization import features_file
from training.stages.network import TrainingContext
from training.stages.regiontagger import RegionTaggerTraining, odds_file
from training.stages.saliency import Saliency

CLASSES = ("cat", "dog", "owl")
REGIONS = np.array([[0, 0, 1, 1], [2, 2, 3, 3]], dtype=np.int32)
SCORED = RegionScores(
    np.arange(8, dtype=np.float32).reshape(4, 2), np.zeros(4, np.float32), np.full(4, 2), np.full(4, 2)
)


def photo(mask: list[list[int]], names: str, complete: str = "") -> Photo:
    """A photo tagged cat and owl, whose hint is `mask`; its values are background and then these names."""
    pixels = np.array(mask, dtype=np.uint8)
    hint = Correction.of(pixels, ("background", *names.split()), complete.split())
    return Photo("1", Path("1.jpg"), ("cat", "owl"), hint=hint)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that has cut the photo into four superpixels of two pixels, the second of which stands out."""
    own = Photo("1", Path("1.jpg"), ())
    superpixels.write(superpixels.Superpixels.file_of(own, tmp_path), REGIONS)
    files.write_png(Saliency.file_of(own, tmp_path), Image.fromarray((REGIONS == 1).astype(np.uint8) * 255))
    return tmp_path


def test_a_hint_counts_for_the_tags_that_it_shows(run: Path):
    """All of the first superpixel and half of the second are owl; a dog is not among the tags."""
    (found,) = hint_evidence(photo([[1, 1, 1, 0], [0, 0, 2, 2]], "Owl dog"), run, CLASSES, SCORED)
    assert (found.name, found.places) == ("owl", [1])
    np.testing.assert_allclose(found.regions.saliency, [1, 0.5, 0, 1 / 2])  # what is a dog is left open
    np.testing.assert_array_equal(found.regions.scores, SCORED.scores[:, 1:])
    cat, owl = hint_evidence(photo([[1, 1, 1, 0], [0, 0, 2, 2]], "owl cat"), run, CLASSES, SCORED)
    assert ((cat.name, cat.places), (owl.name, owl.places)) == (("cat", [0]), ("owl", [1]))
    np.testing.assert_allclose(cat.regions.saliency, [0, 0, 0, 1])
    np.testing.assert_allclose(owl.regions.saliency, [1, 0.5, 0, 0])


def test_foreground_counts_for_all_tags_where_the_hint_shows_none(run: Path):
    (found,) = hint_evidence(photo([[1, 1, 1, 0], [0, 0, 0, 0]], "Foreground"), run, CLASSES, SCORED)
    assert (found.name, found.places) == ("foreground", [0, 1])
    np.testing.assert_allclose(found.regions.saliency, [1, 0.5, 0, 0])
    (found,) = hint_evidence(photo([[1, 1, 1, 0], [2, 2, 0, 0]], "foreground cat"), run, CLASSES, SCORED)
    assert found.name == "cat"


def test_what_is_not_said_counts_by_half_unless_the_class_is_complete(run: Path):
    mask = [[1, 1, 255, 255], [0, 0, 255, 0]]
    (found,) = hint_evidence(photo(mask, "cat"), run, CLASSES, SCORED)
    np.testing.assert_allclose(found.regions.saliency, [1, 0.5, 0, 0.25])
    (found,) = hint_evidence(photo(mask, "cat", complete="cat"), run, CLASSES, SCORED)
    np.testing.assert_allclose(found.regions.saliency, [1, 0, 0, 0])


def test_a_photo_without_a_hint_has_nothing_to_say(run: Path):
    assert hint_evidence(Photo("1", Path("1.jpg"), ("cat",)), run, CLASSES, SCORED) == []
    assert hint_evidence(photo([[1, 1, 1, 0], [0, 0, 0, 0]], "dog"), run, CLASSES, SCORED) == []  # not learned


def test_hints_that_agree_with_the_tags_add_their_odds_to_the_evidence(run: Path, small: TrainConfig):
    given = photo([[1, 1, 1, 0], [2, 2, 0, 0]], "owl cat")
    files.write_array(features_file(given, run, 0), np.zeros((4, 5), dtype=np.float16))
    network = RegionTagger(5, len(CLASSES), 8).eval()
    for weights in network.parameters():
        torch.nn.init.zeros_(weights)
    odds = np.linspace(-2, 2, LEVELS)
    hints = {
        "cat": {"odds": (3 * odds).tolist(), "agreement": 0.59},  # disagrees
        "owl": {"odds": odds.tolist(), "agreement": 0.61},
    }
    stated = {"offsets": [0.0] * 3, "saliency": (odds / 2).tolist(), "hints": hints}
    files.write_text(odds_file(run, 1), json.dumps(stated))
    stage = Evidence.of(small, 1)
    stage.run(given, run, CLASSES, network)
    salient, share = level(np.array([0, 1, 0, 0], np.float32)), level(np.array([1, 0.5, 0, 0], np.float32))
    expected = np.stack([odds[salient] / 2, odds[salient] / 2 + odds[share]], axis=1)
    np.testing.assert_allclose(evidence.read(given, run, 1), expected, atol=0.01)


TOLD = ("cat", "owl")
SURE = {
    "regiontagger.width": 64,
    "regiontagger.dropout": 0.1,
    "regiontagger.fit.learning_rate": 0.02,
    "regiontagger.fit.least_steps": 50,
}


@dataclass(frozen=True)
class Noisy:
    """A run of photos of 8 x 10 superpixels whose features tell cat and owl with much noise, and where these are."""

    run: Path
    photos: tuple[Photo, ...]
    truths: tuple[np.ndarray, ...]

    def accuracy(self, names: str = "", hint: Callable[[np.ndarray], np.ndarray] | None = None) -> float:
        """The mIoU of the evidence, 0..100, with hints of these classes that are made of what is true."""
        shutil.rmtree(self.run / "round-1", ignore_errors=True)
        photos = self.photos
        if hint:
            made = [Correction.of(hint(truth), ("background", *names.split())) for truth in self.truths]
            photos = tuple(replace(photo, hint=each) for photo, each in zip(photos, made, strict=True))
        data, config = TaggedPhotos(Path(), TOLD, photos), load_config(overrides=SURE | {"regiontagger.rarity": 0})
        RegionTaggerTraining.of(config, 1).train(TrainingContext(data, self.run, "cpu"))
        stage, total = Evidence.of(config, 1), Confusion(3)
        network = stage.load(self.run, "cpu")
        for photo, truth in zip(photos, self.truths, strict=True):
            stage.run(photo, self.run, TOLD, network)
            total.add(stage.mask(photo, self.run, TOLD), truth)
        return total.miou()


@pytest.fixture
def noisy(tmp_path: Path) -> Noisy:
    random, photos, truths = np.random.default_rng(0), [], []
    for number in range(24):
        tags = (TOLD[:1], TOLD[1:], TOLD)[number % 3]
        photo, truth = Photo(str(number), Path(), tags), np.zeros((8, 10), dtype=np.uint8)
        for tag in tags:
            top, left = random.integers(0, 5), random.integers(0, 2) + 5 * TOLD.index(tag)
            truth[top : top + 4, left : left + 3] = TOLD.index(tag) + 1
        superpixels.write(superpixels.Superpixels.file_of(photo, tmp_path), np.arange(80).reshape(8, 10))
        files.write_png(Saliency.file_of(photo, tmp_path), Image.fromarray(np.zeros((8, 10), dtype=np.uint8)))
        tells = np.eye(3)[truth.reshape(-1)]
        features = tells + random.normal(0, 0.5, tells.shape)
        files.write_array(features_file(photo, tmp_path, 0), features.astype(np.float16))
        photos.append(photo)
        truths.append(truth)
    return Noisy(tmp_path, tuple(photos), tuple(truths))


def test_true_hints_raise_the_evidence_and_spoiled_ones_do_not_lower_it(noisy: Noisy):
    plain = noisy.accuracy()
    foreground = noisy.accuracy("foreground", lambda truth: np.minimum(truth, 1))
    named = noisy.accuracy("cat owl", lambda truth: truth)
    assert min(foreground, named) > plain + 5
    assert noisy.accuracy("cat owl", lambda truth: np.roll(truth, 2, axis=1)) > plain - 1
    whole = noisy.accuracy("cat owl", lambda truth: np.full_like(truth, truth.max()))
    exchanged = noisy.accuracy("owl cat", lambda truth: truth)
    assert whole == exchanged == plain
