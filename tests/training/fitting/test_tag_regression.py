from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tagmask.metadata import MIN_INPUT_SIDE
from tagmask.photos import read_photo, scale_to
from training.datasets.photos import Photo, TaggedPhotos
from training.fitting.tag_regression import fit_tag_head, regress
from training.networks.backbones import as_input
from training.networks.pixelnet import PixelNet
from training.networks.taghead import ServedNetwork

COLOURS = {"cat": (200, 40, 40), "dog": (40, 60, 190)}


def test_features_that_tell_nothing_leave_the_shares() -> None:
    tags = torch.tensor([[1, 0], [1, 0], [1, 1], [0, 0]], dtype=torch.float32)
    linear = regress(torch.zeros(4, 3), tags)
    assert linear(torch.zeros(3)).sigmoid().tolist() == pytest.approx([0.75, 0.25], abs=1e-3)


def test_the_weights_are_those_of_logistic_regression() -> None:
    """On many draws from a known model its weights come back."""
    features = torch.from_numpy(np.random.default_rng(0).normal(3, 2, (20_000, 2))).float()
    true = torch.sigmoid(features @ torch.tensor([1.0, -0.5]) - 1)
    tags = torch.bernoulli(true, generator=torch.Generator().manual_seed(0))[:, None]
    linear = regress(features, tags)
    assert linear.weight[0].tolist() == pytest.approx([1, -0.5], abs=0.05)
    assert linear.bias.tolist() == pytest.approx([-1], abs=0.1)


def test_rare_photos_do_not_make_it_certain() -> None:
    """The penalty keeps two photos from settling the tags of all others."""
    linear = regress(torch.tensor([[-1.0], [1.0]]), torch.tensor([[0.0], [1.0]]))
    probability = float(linear(torch.ones(1)).sigmoid().detach())
    assert 0.6 < probability < 0.999


def test_the_head_tells_the_tags_of_other_photos(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    names = [*COLOURS] * 8

    def draw(name: str, number: int) -> Path:
        pixels = np.clip(np.array(COLOURS[name]) + random.normal(0, 20, (64, 96, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(path := tmp_path / f"{number}.png")
        return path

    photos = tuple(Photo(str(number), draw(name, number), (name,)) for number, name in enumerate(names))
    torch.manual_seed(0)
    network = PixelNet(3, "test_resnet", 16, "random").eval()
    seen = list[int]()
    learned = TaggedPhotos(root=tmp_path, photos=photos[:-2], classes=tuple(COLOURS))
    served = ServedNetwork(network, fit_tag_head(network, learned, 96, seen.append)).eval()
    assert sum(seen) == len(learned.photos)
    for photo, expected in zip(photos[-2:], ([1, 0], [0, 1]), strict=True):
        pixels = torch.from_numpy(np.array(Image.open(photo.path))).permute(2, 0, 1)[None]
        with torch.inference_mode():
            probabilities, tags = served(as_input(pixels))
        assert (probabilities.shape, tags.shape) == ((1, 3, 64, 96), (1, 2))
        assert tags[0].tolist() == pytest.approx(expected, abs=0.2)


def test_small_photos_are_seen_as_large_as_when_served(tmp_path: Path) -> None:
    """Fine stripes, once they are enlarged, are as wide as coarse ones were before."""
    random = np.random.default_rng(0)
    photos = []
    for number in range(16):
        name, width = (("coarse", 4), ("fine", 2))[number % 2]
        stripes = np.tile(np.arange(48) // width % 2 * 200.0, (48, 1))[..., None] + random.normal(20, 10, (48, 48, 3))
        Image.fromarray(stripes.clip(0, 255).astype(np.uint8)).save(path := tmp_path / f"{number}.png")
        photos.append(Photo(str(number), path, (name,)))
    torch.manual_seed(0)
    network = PixelNet(3, "test_resnet", 16, "random").eval()
    learned = TaggedPhotos(root=tmp_path, photos=tuple(photos[:-2]), classes=("coarse", "fine"))
    served = ServedNetwork(network, fit_tag_head(network, learned, 96)).eval()
    for photo, expected in zip(photos[-2:], ([1, 0], [0, 1]), strict=True):
        pixels = scale_to(read_photo(photo.path), 96, MIN_INPUT_SIDE).transpose(2, 0, 1)[None]
        with torch.inference_mode():
            _, tags = served(as_input(torch.tensor(pixels)))
        assert tags[0].tolist() == pytest.approx(expected, abs=0.2)
