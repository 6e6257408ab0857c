from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tagmask import files
from tagmask.masks import VOID
from tests.training.conftest import Tagged
from training.datasets.photos import Photo, TaggedPhotos
from training.fitting.settings import FitConfig
from training.networks.regionnet import RegionNet
from training.stages.localization import features_file
from training.stages.network import TrainingContext
from training.stages.regionnet import RegionNetConfig, RegionNetTraining
from training.stages.regions import Regions
from training.stages.seeds import Seeds

CONFIG = RegionNetConfig(width=32, dropout=0.1, fit=FitConfig(epochs=8, batch=1, learning_rate=3e-2))

PhotoRegions = Callable[[int], tuple[np.ndarray, np.ndarray]]


def regions(photo: int, count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Superpixels of three kinds, told apart by the first two of five features: (R, 5) float16 and (R,) uint8."""
    random = np.random.default_rng(photo)
    labels = random.integers(0, 3, count).astype(np.uint8)
    features = random.normal(size=(count, 5))
    features[:, :2] += 6 * np.array([[0, 0], [1, 0], [0, 1]])[labels]
    return features.astype(np.float16), labels


def trained(regions: PhotoRegions, run: Path, photos: int = 6) -> RegionNet:
    """RegionNet of round 1, trained on the superpixels of `regions`, all of them seeds but those of label 255."""
    tagged = tuple(Photo(f"{number}", Path(), ("cat",)) for number in range(photos))
    for number, photo in enumerate(tagged):
        features, labels = regions(number)
        files.write_array(features_file(photo, run, 0), features)
        files.write_array(Seeds.file_of(photo, run, 1), labels)
    stage = RegionNetTraining(1, seed=0, settings=CONFIG)
    stage.train(TrainingContext(TaggedPhotos(run, ("cat", "dog"), tagged), run, "cpu"))
    return RegionNet.load(RegionNetTraining.weights_of(run, 1))


def test_it_learns_what_tells_regions_apart(tmp_path: Path):
    network = trained(regions, tmp_path)
    features, labels = regions(100)
    probabilities = network.probabilities(features, (0, 1, 2))
    assert (probabilities.shape, probabilities.dtype) == ((60, 3), np.float32)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert (probabilities.argmax(axis=1) == labels).mean() > 0.95


def test_what_is_common_outvotes_a_photo_that_is_wrong(tmp_path: Path):
    def some_regions(photo: int) -> tuple[np.ndarray, np.ndarray]:
        features, labels = regions(photo)
        return features, np.where(labels == 1, 2, labels).astype(np.uint8) if photo == 0 else labels

    network = trained(some_regions, tmp_path, photos=8)
    features, labels = regions(0)
    assert (network.probabilities(features, (0, 1, 2)).argmax(axis=1) == labels).mean() > 0.9


@pytest.mark.parametrize("seeds_in_last", [0, 1])
def test_photos_without_seeds_do_no_harm(tmp_path: Path, seeds_in_last: int):
    def some_regions(photo: int) -> tuple[np.ndarray, np.ndarray]:
        features, labels = regions(photo)
        if photo == 6:
            labels[seeds_in_last:] = VOID
        return features, labels

    network = trained(some_regions, tmp_path, photos=7)
    assert all(tensor.isfinite().all() for tensor in network.state_dict().values())
    features, labels = regions(100)
    assert (network.probabilities(features, (0, 1, 2)).argmax(axis=1) == labels).mean() > 0.9


def test_relabelling_chooses_among_the_photos_own_labels(tmp_path: Path, tagged: Tagged):
    data, run = tagged(3), tmp_path / "run"
    network = trained(regions, run)
    for index, photo in enumerate(data.photos):
        files.write_array(features_file(photo, run, 0), regions(index)[0])
        Regions(1).run(photo, run, data.classes, network)
    for index, photo in enumerate(data.photos):
        features, labels = regions(index)
        own = photo.labels(data.classes)
        written = np.load(Regions.file_of(photo, run, 1))
        assert written.shape == (len(features), len(own))
        np.testing.assert_allclose(written.astype(float).sum(axis=1), 1, atol=5e-3)
        known = np.isin(labels, own)
        assert (np.array(own)[written.argmax(axis=1)] == labels)[known].mean() > 0.9
    assert VOID not in data.photos[0].labels(data.classes)


def test_each_round_begins_at_random_weights_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    begun = []
    monkeypatch.setattr(RegionNetTraining, "fit", lambda stage, context, network, *_, **__: begun.append(network))
    data = TaggedPhotos(tmp_path, ("cat", "dog"), (Photo("0", Path(), ("cat",)),))
    for number in (1, 2):
        files.write_array(features_file(data.photos[0], tmp_path, number - 1), regions(0)[0])
        files.write_array(Seeds.file_of(data.photos[0], tmp_path, number), regions(0)[1])
        RegionNetTraining(number, seed=0, settings=CONFIG).train(TrainingContext(data, tmp_path, "cpu"))
    first, second = (network.state_dict()["layers.1.weight"] for network in begun)
    assert not torch.equal(first, second)
