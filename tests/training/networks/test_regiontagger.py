import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from tagmask.masks import VOID
from tests.training.conftest import draw_photos
from training.fitting.inputs import TaggedRegions, join_regions
from training.networks.regiontagger import RegionTagger, photo_scores, region_tag_loss


def test_photo_scores_by_hand():
    """Photos of two and one superpixels: log mean exp of (0, log 3) is log 2; one superpixel is its own photo."""
    scores = torch.tensor([[0.0], [math.log(3)], [5.0]])
    assert photo_scores(scores, torch.tensor([2, 1]), 1).flatten().tolist() == pytest.approx([math.log(2), 5])


def test_sharpness_goes_from_the_mean_to_the_maximum():
    scores, regions = torch.tensor([[-1.0], [0.0], [4.0]]), torch.tensor([3])
    assert photo_scores(scores, regions, 1e-3).item() == pytest.approx(1, abs=0.01)
    assert photo_scores(scores, regions, 100).item() == pytest.approx(4, abs=0.02)


def test_it_finds_the_superpixels_that_tell_a_tag():
    """Each photo has twenty superpixels of noise; those with a tag have one more, and only its first number differs."""
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    tags = torch.tensor([[float(i % 2)] for i in range(40)])
    photos = [random.normal(size=(21, 6)).astype(np.float32) for _ in tags]
    for photo, tag in zip(photos, tags, strict=True):
        photo[7, 0] = 6 * tag.item()
    features, regions = torch.from_numpy(np.concatenate(photos)), torch.full((40,), 21)
    network = RegionTagger(6, 1, 32)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    for _ in range(60):
        loss = region_tag_loss(network, (features, regions, tags), sharpness=2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
    found = [int(network.scores(torch.from_numpy(photo))[:, 0].argmax()) for photo in photos[1::2]]
    assert found == [7] * 20


def test_vouched_superpixels_have_a_loss_of_their_own():
    """Two photos of two superpixels: one is vouched for as background, one as the second class; others say nothing."""
    torch.manual_seed(0)
    network = RegionTagger(4, 2, 8, dropout=0)
    features, regions, tags = torch.randn(4, 4), torch.tensor([2, 2]), torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    plain = region_tag_loss(network, (features, regions, tags), sharpness=2)
    scores = network(features)[[0, 2]]
    truth = torch.tensor([[0.0, 0.0], [0.0, 1.0]])
    expected = plain + 3 * functional.binary_cross_entropy_with_logits(scores, truth)
    batch = features, regions, tags, torch.tensor([0, VOID, 2, VOID])
    assert region_tag_loss(network, batch, sharpness=2, vouched_weight=3).item() == pytest.approx(expected.item())
    batch = features, regions, tags, torch.full((4,), VOID)
    assert region_tag_loss(network, batch, sharpness=2, vouched_weight=3).item() == plain.item()


def test_a_batch_has_the_vouched_labels_of_its_photos(tmp_path: Path):
    data = draw_photos(tmp_path, 2)
    photos = TaggedRegions(data, lambda photo: np.zeros((3, 5)), lambda photo: np.array([0, 1, VOID]))
    features, regions, tags, vouched = join_regions([photos[0, 0], photos[0, 1]])
    assert (features.shape, regions.tolist(), tags.tolist()) == ((6, 5), [3, 3], [[1, 0], [0, 1]])
    assert vouched.tolist() == [0, 1, VOID] * 2
