import math

import numpy as np
import pytest
import torch

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
