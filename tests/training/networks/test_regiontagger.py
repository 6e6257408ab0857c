import math
from pathlib import Path

import numpy as np
import pytest
import torch

from training.datasets.photos import Photo, TaggedPhotos
from training.networks.regiontagger import RegionTagger, photo_scores, region_tag_loss, tag_odds


def test_photo_scores_by_hand():
    """Photos of two and one superpixels: log mean exp of (0, log 3) is log 2; one superpixel is its own photo."""
    scores = torch.tensor([[0.0], [math.log(3)], [5.0]])
    assert photo_scores(scores, torch.tensor([2, 1]), 1).flatten().tolist() == pytest.approx([math.log(2), 5])


def test_sharpness_goes_from_the_mean_to_the_maximum():
    scores, regions = torch.tensor([[-1.0], [0.0], [4.0]]), torch.tensor([3])
    assert photo_scores(scores, regions, 1e-3).item() == pytest.approx(1, abs=0.01)
    assert photo_scores(scores, regions, 100).item() == pytest.approx(4, abs=0.02)


def test_tag_odds_are_those_of_the_photos():
    photos = tuple(Photo(str(i), Path(), ("cat",) if i < 3 else ()) for i in range(4))
    odds = tag_odds(TaggedPhotos(Path(), ("cat", "dog"), photos))
    assert odds.tolist() == pytest.approx([math.log(3), math.log(0.001 / 0.999)])


def test_what_every_photo_has_says_nothing():
    """Superpixels without any sign of a tag that three of four photos carry have scores around 0."""
    torch.manual_seed(0)
    features, tags = torch.randn(400, 6), torch.tensor([[1.0], [1.0], [1.0], [0.0]] * 10)
    network = RegionTagger(6, 1, 8)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.003)
    for _ in range(30):
        odds = torch.tensor([math.log(3)])
        loss = region_tag_loss(network, (features, torch.full((40,), 10), tags), sharpness=2, odds=odds)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
    assert abs(float(network.scores(torch.randn(200, 6)).mean())) < 0.5


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
        loss = region_tag_loss(network, (features, regions, tags), sharpness=2, odds=torch.zeros(1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
    found = [int(network.scores(torch.from_numpy(photo))[:, 0].argmax()) for photo in photos[1::2]]
    assert found == [7] * 20
