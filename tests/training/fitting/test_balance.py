import copy
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tagmask.masks import VOID
from tagmask.photos import read_photo
from tests.training.conftest import Tagged
from training.datasets.photos import Photo, TaggedPhotos
from training.fitting import balance as balancing
from training.fitting.balance import LIMIT, PhotoScores, balance, fit_biases
from training.networks.localize import localize
from training.networks.pixelnet import PixelNet

SHOWN = {"long_side": 80, "scale": 1.5, "flip": True}


@pytest.fixture
def network() -> PixelNet:
    torch.manual_seed(0)
    return PixelNet(3, "resnet10t", 16, "random").eval()


def labels(photo: Photo, share: float, void: int = 0) -> np.ndarray:
    """The photo's first tag over a `share` of its rows, its last in the tenth above that, void in the last `void`."""
    mask, tags = np.zeros((64, 80), dtype=np.uint8), photo.labels(("cat", "dog"))[1:]
    mask[: round(64 * min(1, share + 0.1))] = tags[-1] if share else 0
    mask[: round(64 * share)] = tags[0]
    mask[64 - void :] = VOID
    return mask


def shares(network: PixelNet, data: TaggedPhotos, share: float) -> np.ndarray:
    """Share of the pixels of each label, with each photo's tags given, and in the masks: (2, labels)."""
    counts = np.zeros((2, len(data.classes) + 1))
    for photo in data.photos:
        scores, _ = localize(network, read_photo(photo.path, 80), scale=1.5, flip=True)
        own = photo.labels(data.classes)
        mask = cv2.resize(labels(photo, share), scores.shape[:0:-1], interpolation=cv2.INTER_NEAREST)
        predicted = np.array(own)[scores[list(own)].argmax(dim=0).numpy()]
        counts += [np.bincount(each.ravel(), minlength=counts.shape[1]) for each in (predicted, mask)]
    return counts / counts.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_as_much_is_painted_of_each_label_as_the_masks_have(network: PixelNet, tagged: Tagged, share: float):
    data, before = tagged(6), copy.deepcopy(network.state_dict())
    change = balance(network, data, lambda photo: labels(photo, share), **SHOWN)
    assert abs(change).max() < LIMIT
    painted, wanted = shares(network, data, share)
    np.testing.assert_allclose(painted, wanted, atol=0.01)
    np.testing.assert_allclose(balance(network, data, lambda photo: labels(photo, share), **SHOWN), 0, atol=0.01)
    after = network.state_dict()
    assert [name for name in after if not torch.equal(after[name], before[name])] == ["labels.bias"]


def test_photos_that_show_nothing_do_not_count(network: PixelNet, tagged: Tagged):
    data, other = tagged(2), copy.deepcopy(network)
    more = replace(data, photos=(*data.photos, replace(data.photos[0], id="nothing", tags=())))
    change = balance(network, data, lambda photo: labels(photo, 0.25), **SHOWN)
    np.testing.assert_array_equal(balance(other, more, lambda photo: labels(photo, 0.25), **SHOWN), change)


def test_void_counts_as_nothing(network: PixelNet, tagged: Tagged):
    data, other = tagged(3), copy.deepcopy(network)
    half_void = balance(network, data, lambda photo: labels(photo, 0.25, void=32), **SHOWN)
    assert not np.array_equal(half_void, balance(other, data, lambda photo: labels(photo, 0.25), **SHOWN))
    before = copy.deepcopy(network.state_dict()["labels.bias"])
    assert not balance(network, data, lambda photo: labels(photo, 0, void=64), **SHOWN).any()
    assert torch.equal(network.state_dict()["labels.bias"], before)


@pytest.mark.parametrize("off", [10, -10], ids=["nothing is painted", "everything is painted"])
def test_it_moves_so_far_and_no_further(network: PixelNet, tagged: Tagged, off: float):
    with torch.no_grad():
        network.labels.bias[0] += off
    moved = balance(network, tagged(3), lambda photo: labels(photo, 0.5 if off > 0 else 0), **SHOWN)
    assert moved[0] == -np.sign(off) * LIMIT
    assert abs(moved).max() == LIMIT


def test_each_photo_advances_and_its_pixels_are_limited(
    network: PixelNet, tagged: Tagged, monkeypatch: pytest.MonkeyPatch
):
    seen: list[PhotoScores] = []
    monkeypatch.setattr(balancing, "PIXELS", 20)
    monkeypatch.setattr(balancing, "fit_biases", lambda photos, count, least: seen.extend(photos) or np.zeros(count))
    advances: list[int] = []
    settings = {"long_side": 48, "scale": 1.0, "flip": False}
    data = tagged(3)
    balance(network, data, lambda photo: labels(photo, 0.3, void=24), advance=advances.append, **settings)
    assert advances == [1, 1, 1]
    for photo, each in zip(data.photos, seen, strict=True):
        assert each.labels == photo.labels(data.classes)
        assert each.scores.shape == (len(each.labels), len(each.mask))
        assert 5 <= len(each.mask) <= 20
        assert set(each.mask) <= set(each.labels)


def test_the_biases_of_two_labels_are_found():
    """Of two photos, one has a mask that the scores would give with 0.5 less for background, 0.25 more for label 2."""
    random, true = np.random.default_rng(0), np.array([-0.5, 0.0, 0.25])
    photos = []
    for own in ((0, 1), (0, 1, 2), (0, 2)):
        scores = random.normal(size=(len(own), 4000)).astype(np.float32)
        mask = np.array(own)[(scores + true[list(own), None]).argmax(axis=0)].astype(np.uint8)
        photos.append(PhotoScores(own, scores, mask))
    found = fit_biases(photos, 3)
    np.testing.assert_allclose(found - found[1], true, atol=0.05)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), classes=st.integers(1, 5))
def test_counts_meet_the_masks_or_a_bias_is_at_its_limit(seed: int, classes: int):
    random = np.random.default_rng(seed)
    true, photos = random.normal(size=classes + 1) * 0.3, []
    for _ in range(8):
        own = (0, *sorted({int(each) for each in random.integers(1, classes + 1, size=2)}))
        scores = random.normal(size=(len(own), 200)).astype(np.float32)
        mask = np.array(own)[(scores + true[list(own), None]).argmax(axis=0)].astype(np.uint8)
        photos.append(PhotoScores(own, scores, mask))
    found = fit_biases(photos, classes + 1)
    goal = sum(np.bincount(photo.mask, minlength=classes + 1) for photo in photos)
    counts = np.zeros(classes + 1, dtype=np.int64)
    for photo in photos:
        painted = (photo.scores + found[list(photo.labels), None]).argmax(axis=0)
        counts += np.bincount(np.array(photo.labels)[painted], minlength=classes + 1)
    assert abs(found).max() <= LIMIT
    assert abs(counts - goal).max() <= 3 or abs(found).max() == LIMIT


def test_only_starved_classes_are_lifted_and_so_far_as_asked(network: PixelNet, tagged: Tagged):
    """The masks have 50 pixels of each class; classes 1 and 2 are painted on 40 and 5, so one gets 20 more."""
    scores = np.zeros((3, 200), dtype=np.float32)
    scores[0] = 0.5
    scores[1, :50], scores[2, 50:100] = np.linspace(0.9, 0.4, 50), np.linspace(0.54, 0.04, 50)
    mask = np.repeat(np.array([1, 2, 0], dtype=np.uint8), (50, 50, 100))
    photo = PhotoScores((0, 1, 2), scores, mask)
    change = fit_biases([photo], 3, least=0.5)
    painted = np.bincount((scores + change[:, None]).argmax(axis=0), minlength=3)
    assert painted.tolist() == [200 - 40 - 25, 40, 25]
    assert change[:2].tolist() == [0, 0]
    assert not fit_biases([photo], 3, least=0).any()
    data, wanted = tagged(6), shares(network, tagged(6), 0.5)[1]
    balance(network, data, lambda photo: labels(photo, 0.5), 0.5, **SHOWN)
    assert (shares(network, data, 0.5)[0][1:] >= 0.5 * wanted[1:] - 0.01).all()


def test_a_label_without_photos_stays():
    only = PhotoScores((0, 1), np.array([[0.0, 0.2, 0.4], [0.1, 0.1, 0.1]], dtype=np.float32), np.zeros(3, np.uint8))
    assert fit_biases([only], 3)[2] == 0
    assert not fit_biases([], 3).any()
