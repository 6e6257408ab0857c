from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tagmask.masks import VOID
from tests.training.conftest import Tagged
from training.config import FitConfig, RegionNetConfig
from training.datasets.photos import Photo
from training.networks.regionnet import RegionNet, load_regionnet, relabel, train_regionnet
from training.run.layout import Layout

CPU = torch.device("cpu")
CONFIG = RegionNetConfig(width=32, dropout=0.1, fit=FitConfig(epochs=8, batch=1, learning_rate=3e-2))

Seeds = Callable[[int], tuple[np.ndarray, np.ndarray]]


def regions(photo: int, count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Superpixels of three kinds, told apart by the first two of five features: (R, 5) float16 and (R,) uint8."""
    random = np.random.default_rng(photo)
    labels = random.integers(0, 3, count).astype(np.uint8)
    features = random.normal(size=(count, 5))
    features[:, :2] += 6 * np.array([[0, 0], [1, 0], [0, 1]])[labels]
    return features.astype(np.float16), labels


def trained(seeds: Seeds, weights: Path, photos: int = 6) -> RegionNet:
    torch.manual_seed(0)
    network = RegionNet(5, 3, CONFIG)
    tagged = [Photo(f"{number}", Path(), ("cat",)) for number in range(photos)]
    train_regionnet(network, tagged, seeds, weights, CONFIG, device=CPU, seed=0)
    return network.eval()


def test_it_learns_what_tells_regions_apart(tmp_path: Path):
    network = trained(regions, tmp_path / "w.pt")
    features, labels = regions(100)
    probabilities = network.probabilities(features, (0, 1, 2))
    assert (probabilities.shape, probabilities.dtype) == ((60, 3), np.float32)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert (probabilities.argmax(axis=1) == labels).mean() > 0.95


def test_what_is_common_outvotes_a_photo_that_is_wrong(tmp_path: Path):
    def seeds(photo: int) -> tuple[np.ndarray, np.ndarray]:
        features, labels = regions(photo)
        return features, np.where(labels == 1, 2, labels).astype(np.uint8) if photo == 0 else labels

    network = trained(seeds, tmp_path / "w.pt", photos=8)
    features, labels = regions(0)
    assert (network.probabilities(features, (0, 1, 2)).argmax(axis=1) == labels).mean() > 0.9


@pytest.mark.parametrize("seeds_in_last", [0, 1])
def test_photos_without_seeds_do_no_harm(tmp_path: Path, seeds_in_last: int):
    def seeds(photo: int) -> tuple[np.ndarray, np.ndarray]:
        features, labels = regions(photo)
        count = len(labels) if photo < 6 else seeds_in_last
        return features[:count], labels[:count]

    network = trained(seeds, tmp_path / "w.pt", photos=7)
    assert all(tensor.isfinite().all() for tensor in network.state_dict().values())
    features, labels = regions(100)
    assert (network.probabilities(features, (0, 1, 2)).argmax(axis=1) == labels).mean() > 0.9


def test_relabelling_chooses_among_the_photos_own_labels(tmp_path: Path, tagged: Tagged):
    data, layout = tagged(3), Layout(tmp_path / "run")
    trained(regions, tmp_path / "w.pt")
    network = load_regionnet(tmp_path / "w.pt", CONFIG)
    for index, photo in enumerate(data.photos):
        path = layout.round(0).features(photo.id)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, regions(index)[0])
        relabel(photo, layout=layout, number=1, classes=data.classes, network=network)
    for index, photo in enumerate(data.photos):
        features, labels = regions(index)
        own = data.labels(photo)
        written = np.load(layout.round(1).regions(photo.id))
        assert written.shape == (len(features), len(own))
        np.testing.assert_allclose(written.astype(float).sum(axis=1), 1, atol=5e-3)
        known = np.isin(labels, own)
        assert (np.array(own)[written.argmax(axis=1)] == labels)[known].mean() > 0.9
    assert VOID not in data.labels(data.photos[0])
