import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from tagmask.masks import VOID
from tagmask.photos import read_photo
from tests.training.conftest import Tagged
from training.datasets.photos import Photo, TaggedPhotos
from training.fitting.balance import LIMIT, balance
from training.networks.classifier import TagClassifier
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


def painted(network: TagClassifier | PixelNet, data: TaggedPhotos, long_side: int = 80) -> float:
    """Share of the pixels that are not background, with each photo's tags given."""
    shares = []
    for photo in data.photos:
        scores, _ = localize(network, read_photo(photo.path, long_side), scale=1.5, flip=True)
        shares.append((scores[list(photo.labels(data.classes))].argmax(dim=0) > 0).float().mean().item())
    return float(np.mean(shares))


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_as_much_is_painted_as_the_labels_paint(network: PixelNet, tagged: Tagged, share: float):
    data, before = tagged(6), copy.deepcopy(network.state_dict())
    balance(network, data, lambda photo: labels(photo, share), **SHOWN)
    assert painted(network, data) == pytest.approx(share, abs=0.02)
    assert balance(network, data, lambda photo: labels(photo, share), **SHOWN) == (pytest.approx(0, abs=0.01))
    after = network.state_dict()
    assert [name for name in after if not torch.equal(after[name], before[name])] == ["labels.bias"]
    assert torch.equal(after["labels.bias"][1:], before["labels.bias"][1:])


def test_photos_that_show_nothing_do_not_count(network: PixelNet, tagged: Tagged):
    data, other = tagged(2), copy.deepcopy(network)
    more = replace(data, photos=(*data.photos, replace(data.photos[0], id="nothing", tags=())))
    change = balance(network, data, lambda photo: labels(photo, 0.25), **SHOWN)
    assert balance(other, more, lambda photo: labels(photo, 0.25), **SHOWN) == change


def test_void_counts_as_nothing(network: PixelNet, tagged: Tagged):
    data, other = tagged(3), copy.deepcopy(network)
    half_void = balance(network, data, lambda photo: labels(photo, 0.25, void=32), **SHOWN)
    assert half_void != balance(other, data, lambda photo: labels(photo, 0.25), **SHOWN)
    before = copy.deepcopy(network.state_dict()["labels.bias"])
    assert balance(network, data, lambda photo: labels(photo, 0, void=64), **SHOWN) == 0
    assert torch.equal(network.state_dict()["labels.bias"], before)


def test_it_moves_so_far_and_no_further(network: PixelNet, tagged: Tagged):
    with torch.no_grad():
        network.labels.bias[0] += 10  # nothing is painted
    moved = balance(network, tagged(3), lambda photo: labels(photo, 0.5), **SHOWN)
    assert moved == LIMIT


def test_it_moves_back_so_far_and_no_further(network: PixelNet, tagged: Tagged):
    with torch.no_grad():
        network.labels.bias[0] -= 10  # everything is painted
    assert balance(network, tagged(3), lambda photo: labels(photo, 0), **SHOWN) == -LIMIT


def test_the_change_is_a_quantile_of_what_background_leads_by(network: PixelNet, tagged: Tagged):
    """By the share that the masks paint, of the pixels that are not void, at the size that the network reads."""
    data, advances = tagged(3), []
    leads, painted = [], 0
    for photo in data.photos:
        scores, _ = localize(network, read_photo(photo.path, 48), scale=1.0, flip=False)
        tags = list(photo.labels(data.classes))[1:]
        lead = (scores[0] - scores[tags].amax(dim=0)).numpy()
        rows = np.arange(lead.shape[0]) * 64 // lead.shape[0]  # of the mask, nearest
        mask = labels(photo, 0.3, void=24)[rows][:, : lead.shape[1]]
        leads.append(lead[mask != VOID])
        painted += int((mask[mask != VOID] > 0).sum())
    pixels = np.concatenate(leads)
    change = balance(
        network, data, lambda photo: labels(photo, 0.3, void=24), long_side=48, scale=1.0, flip=False,
        advance=advances.append,
    )  # fmt: skip
    assert change == pytest.approx(float(np.quantile(pixels, painted / len(pixels))), abs=1e-6)
    assert advances == [1, 1, 1]
