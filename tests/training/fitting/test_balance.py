import copy
from dataclasses import replace
from typing import Any

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
from training.fitting.balance import LIMIT, PhotoScores, balance, fit_background, lift_classes
from training.networks.localize import localize
from training.networks.pixelnet import PixelNet

SHOWN = {"long_side": 80, "scale": 1.5, "flip": True}


@pytest.fixture
def network() -> PixelNet:
    torch.manual_seed(0)
    return PixelNet(3, "resnet10t", 16, "random").eval()


def labels(photo: Photo, share: float, void: int = 0) -> np.ndarray:
    """The photo's first tag over a `share` of its rows, and void in the last `void` rows."""
    mask = np.zeros((64, 80), dtype=np.uint8)
    mask[: round(64 * share)] = photo.labels(("cat", "dog"))[1]
    mask[64 - void :] = VOID
    return mask


def move(network: PixelNet, data: TaggedPhotos, share: float, void: int = 0, **changes: Any) -> np.ndarray:
    """Balance to masks that have a `share` of each photo."""
    options = {"learned": lambda photo: labels(photo, 0), "least": 0.5, **SHOWN, **changes}
    return balance(network, data, before=lambda photo: labels(photo, share, void), **options)


def painted(network: PixelNet, data: TaggedPhotos, long_side: int = 80) -> np.ndarray:
    """Share of the pixels of each label, with each photo's tags given."""
    counts = np.zeros(len(data.classes) + 1)
    for photo in data.photos:
        pixels = read_photo(photo.path, long_side)
        scores, _ = localize(network, pixels, long_side=long_side, scale=1.5, flip=True)
        own = photo.labels(data.classes)
        predicted = np.array(own)[scores[list(own)].argmax(dim=0).numpy()]
        counts += np.bincount(predicted.ravel(), minlength=len(counts))
    return counts / counts.sum()


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_as_much_is_painted_as_the_masks_before_have(network: PixelNet, tagged: Tagged, share: float):
    data = tagged(6)
    with torch.no_grad():
        network.labels.bias[0] += 0.3  # less is painted than any of the masks have
    before = copy.deepcopy(network.state_dict())
    move(network, data, share)
    assert painted(network, data)[0] == pytest.approx(1 - share, abs=0.02)
    np.testing.assert_allclose(move(network, data, share), 0, atol=0.01)
    after = network.state_dict()
    assert [name for name in after if not torch.equal(after[name], before[name])] == ["labels.bias"]
    assert torch.equal(after["labels.bias"][1:], before["labels.bias"][1:])


def test_photos_that_show_nothing_do_not_count(network: PixelNet, tagged: Tagged):
    data, other = tagged(2), copy.deepcopy(network)
    more = replace(data, photos=(*data.photos, replace(data.photos[0], id="nothing", tags=())))
    np.testing.assert_array_equal(move(network, data, 0.25), move(other, more, 0.25))


def test_void_counts_as_nothing(network: PixelNet, tagged: Tagged):
    data, other = tagged(3), copy.deepcopy(network)
    assert not np.array_equal(move(network, data, 0.25, void=32), move(other, data, 0.25))
    before = copy.deepcopy(network.state_dict()["labels.bias"])
    assert not move(network, data, 0, void=64).any()
    assert torch.equal(network.state_dict()["labels.bias"], before)


def test_it_moves_so_far_and_no_further(network: PixelNet, tagged: Tagged):
    with torch.no_grad():
        network.labels.bias[0] += 10  # nothing is painted
    assert move(network, tagged(3), 0.5).tolist() == [-LIMIT, 0, 0]
    with torch.no_grad():
        network.labels.bias[0] -= 20  # everything is painted, and stays
    assert move(network, tagged(3), 0).tolist() == [0, 0, 0]


def test_classes_that_are_hardly_painted_are_lifted(network: PixelNet, tagged: Tagged):
    data = tagged(6)
    move(network, data, 0.5)
    wanted = painted(network, data)
    with torch.no_grad():
        network.labels.bias[2] -= 1
    assert painted(network, data)[2] < 0.4 * wanted[2]
    maps = {photo.id: labels(photo, 0) for photo in data.photos}
    for photo in data.photos:  # dogs on as many pixels as before, wherever
        if "dog" in photo.tags:
            maps[photo.id].reshape(-1)[: int(wanted[2] * 6 * 64 * 80 / sum("dog" in p.tags for p in data.photos))] = 2
    change = balance(network, data, learned=lambda photo: maps[photo.id], least=0.8, before=None, **SHOWN)
    assert change[:2].tolist() == [0, 0]
    assert 0 < change[2] < 1
    assert painted(network, data)[2] == pytest.approx(0.8 * wanted[2], rel=0.1)


def test_each_photo_advances_and_its_pixels_are_limited(
    network: PixelNet, tagged: Tagged, monkeypatch: pytest.MonkeyPatch
):
    seen: list[PhotoScores] = []
    monkeypatch.setattr(balancing, "PIXELS", 20)
    monkeypatch.setattr(balancing, "fit_background", lambda photos, count: seen.extend(photos) or np.zeros(count))
    advances: list[int] = []
    data = tagged(3)
    move(network, data, 0.3, void=24, advance=advances.append, long_side=48, scale=1.0, flip=False)
    assert advances == [1, 1, 1]
    for photo, each in zip(data.photos, seen, strict=True):
        assert each.labels == photo.labels(data.classes)
        assert each.scores.shape == (len(each.labels), len(each.mask))
        assert 10 <= len(each.mask) <= 20
        assert set(each.mask) <= {*each.labels, VOID}


def test_the_change_of_background_is_a_quantile_of_what_it_leads_by():
    """By the share that the masks paint, of the pixels that are not void; none if the network paints more."""
    random = np.random.default_rng(0)
    scores = random.normal(size=(3, 400)).astype(np.float32)
    scores[0] += 2
    mask = np.repeat(np.array([1, 2, 0, VOID], dtype=np.uint8), (60, 30, 210, 100))
    lead = (scores[0] - scores[1:].max(axis=0))[:300]
    found = fit_background([PhotoScores((0, 1, 2), scores, mask)], 4)
    assert found.tolist() == pytest.approx([-np.quantile(lead, 90 / 300), 0, 0, 0], abs=1e-6)
    scores[0] -= 4
    assert not fit_background([PhotoScores((0, 1, 2), scores, mask)], 4).any()
    assert not fit_background([], 3).any()


def test_only_starved_classes_are_lifted_and_so_far_as_asked():
    """The masks have 50 pixels of each class; classes 1 and 2 are painted on 40 and 5, so one gets 20 more."""
    scores = np.zeros((3, 200), dtype=np.float32)
    scores[0] = 0.5
    scores[1, :50], scores[2, 50:100] = np.linspace(0.9, 0.4, 50), np.linspace(0.54, 0.04, 50)
    mask = np.repeat(np.array([1, 2, 0], dtype=np.uint8), (50, 50, 100))
    photo = PhotoScores((0, 1, 2), scores, mask)
    change = lift_classes([photo], np.zeros(3), 0.5)
    painted = np.bincount((scores + change[:, None]).argmax(axis=0), minlength=3)
    assert painted.tolist() == [200 - 40 - 25, 40, 25]
    assert change[:2].tolist() == [0, 0]
    assert not lift_classes([photo], np.zeros(3), 0).any()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), classes=st.integers(1, 5), least=st.floats(0.1, 0.9))
def test_each_class_has_its_part_or_its_bias_is_at_the_limit(seed: int, classes: int, least: float):
    random = np.random.default_rng(seed)
    true, photos = random.normal(size=classes + 1), []
    for _ in range(8):
        own = (0, *sorted({int(each) for each in random.integers(1, classes + 1, size=2)}))
        scores = random.normal(size=(len(own), 200)).astype(np.float32)
        mask = np.array(own)[(scores + true[list(own), None]).argmax(axis=0)].astype(np.uint8)
        photos.append(PhotoScores(own, scores, mask))
    change = lift_classes(photos, np.zeros(classes + 1), least)
    counts, goal = np.zeros(classes + 1), np.zeros(classes + 1)
    for photo in photos:
        strongest = (photo.scores + change[list(photo.labels), None]).argmax(axis=0)
        counts += np.bincount(np.array(photo.labels)[strongest], minlength=classes + 1)
        goal += np.bincount(photo.mask, minlength=classes + 1)
    lifted = np.flatnonzero(change)
    assert change[0] == 0
    assert (change >= 0).all()
    assert (counts[lifted] >= least * goal[lifted] - 8)[change[lifted] < LIMIT].all()


def test_a_label_without_photos_stays():
    only = PhotoScores((0, 1), np.array([[0.0, 0.2, 0.4], [0.1, 0.1, 0.1]], dtype=np.float32), np.zeros(3, np.uint8))
    assert lift_classes([only], np.zeros(3), 0.5)[2] == 0
