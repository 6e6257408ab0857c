from pathlib import Path

import numpy as np
import pytest
import torch

from tagmask.photos import read_photo
from tests.training.conftest import Tagged
from training.config import TrainConfig
from training.datasets.photos import TaggedPhotos
from training.networks import localize as localizing
from training.networks.classifier import TagClassifier
from training.networks.localize import half_precision, localize
from training.networks.pixelnet import PixelNet
from training.stages import least_areas, superpixels
from training.stages.class_maps import ClassMaps
from training.stages.localization import Localization, LocalizationConfig, features_file, maps_file, region_features
from training.stages.masks import Masks, seen_file
from training.stages.superpixels import Superpixels

BACKBONE = "resnet10t"
PLAIN = LocalizationConfig(scale=1.0, flip=False)


@pytest.fixture(scope="module")
def classifier() -> TagClassifier:
    torch.manual_seed(0)
    return TagClassifier(2, BACKBONE, "random").eval()


@pytest.fixture(scope="module")
def pixelnet() -> PixelNet:
    torch.manual_seed(0)
    return PixelNet(3, BACKBONE, 16, "random").eval()


def locate(network: TagClassifier | PixelNet, data: TaggedPhotos, run: Path, small: TrainConfig) -> Localization:
    """Cut the photos, and localize by the network, before the rounds or in round 1; returns the stage."""
    kind, number = (ClassMaps, 0) if isinstance(network, TagClassifier) else (Masks, 1)
    stage = kind(number, long_side=80, backbone=BACKBONE, settings=PLAIN)
    for photo in data.photos:
        Superpixels.of(small, 0).prepare(run, data.classes)(photo)
        if not stage.file(photo, run).is_file():
            stage.run(photo, run, data.classes, network)
    return stage


def test_the_classifier_writes_maps_of_the_photos_tags_alone(
    tmp_path: Path, tagged: Tagged, small: TrainConfig, classifier: TagClassifier
):
    data, run = tagged(3), tmp_path / "run"
    locate(classifier, data, run, small)
    for photo in data.photos:
        maps = np.load(maps_file(photo, run, 0))
        assert maps.dtype == np.float16
        expected, _ = localize(classifier, read_photo(photo.path, 80), long_side=80, scale=1, flip=False)
        own = [data.classes.index(tag) for tag in photo.tags]
        np.testing.assert_allclose(maps, expected[own].numpy(), atol=1e-2)
        regions, features = superpixels.read(photo, run), np.load(features_file(photo, run, 0))
        assert features.shape == (regions.max() + 1, sum(classifier.backbone.channels) + 3)
        assert np.isfinite(features).all()
        assert not seen_file(photo, run, 0).exists()


def test_small_photos_are_seen_at_the_working_size_too(
    tmp_path: Path, tagged: Tagged, small: TrainConfig, classifier: TagClassifier
):
    data, run = tagged(1, (40, 32)), tmp_path / "run"
    locate(classifier, data, run, small)
    (photo,) = data.photos
    expected, _ = localize(classifier, read_photo(photo.path), long_side=40, scale=2, flip=False)
    np.testing.assert_allclose(np.load(maps_file(photo, run, 0)), expected[:1].numpy(), atol=1e-2)


def test_pixelnet_writes_probabilities_of_the_photos_labels_and_what_it_sees_without_tags(
    tmp_path: Path, tagged: Tagged, small: TrainConfig, pixelnet: PixelNet
):
    data, run = tagged(3), tmp_path / "run"
    locate(pixelnet, data, run, small)
    for photo in data.photos:
        maps, seen = np.load(maps_file(photo, run, 1)), np.load(seen_file(photo, run, 1))
        scores, _ = localize(pixelnet, read_photo(photo.path, 80), long_side=80, scale=1, flip=False)
        expected = scores[list(photo.labels(data.classes))].softmax(dim=0).numpy()
        np.testing.assert_allclose(maps, expected, atol=1e-2)
        assert seen.shape == (3,)
        assert seen[0] == pytest.approx((scores.argmax(dim=0) == 0).float().mean().item(), abs=1e-3)
        assert seen.sum() == pytest.approx(1)


def test_pixelnets_masks_have_each_tag_on_its_least_area(
    tmp_path: Path, tagged: Tagged, small: TrainConfig, pixelnet: PixelNet
):
    data, run = tagged(3), tmp_path / "run"
    least_areas.write(run, 1, np.array([0.1, 0.2]))
    locate(pixelnet, data, run, small)
    for photo in data.photos:
        _, *own = labels = list(photo.labels(data.classes))
        scores, _ = localize(pixelnet, read_photo(photo.path, 80), long_side=80, scale=1, flip=False)
        probabilities = scores[labels].softmax(dim=0).numpy()
        surest = [np.quantile(plane, 1 - 0.1 * label) for label, plane in zip(own, probabilities[1:], strict=True)]
        assert max(surest) < 0.8, "the network, which was never trained, is unsure of each"
        raised = probabilities * np.array([1, *(min(3, 0.8 / each) for each in surest)])[:, None, None]
        np.testing.assert_allclose(np.load(maps_file(photo, run, 1)), raised / raised.sum(axis=0), atol=1e-2)


def test_photos_that_are_done_are_passed_over(
    tmp_path: Path, tagged: Tagged, small: TrainConfig, classifier: TagClassifier
):
    data, run = tagged(3), tmp_path / "run"
    locate(classifier, data, run, small)
    kept, lost = (maps_file(photo, run, 0) for photo in data.photos[:2])
    before = lost.read_bytes()
    kept.write_bytes(b"mine")
    lost.unlink()
    locate(classifier, data, run, small)
    assert kept.read_bytes() == b"mine"
    assert lost.read_bytes() == before


def test_a_mirrored_photo_gives_mirrored_maps_and_features(pixelnet: PixelNet):
    photo = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    maps, features = localize(pixelnet, photo, long_side=64, scale=1, flip=True)
    mirrored = localize(pixelnet, np.ascontiguousarray(photo[:, ::-1]), long_side=64, scale=1, flip=True)
    torch.testing.assert_close(mirrored[0].flip(2), maps, atol=1e-4, rtol=1e-4)
    for one, other in zip(features, mirrored[1], strict=True):
        torch.testing.assert_close(other.flip(2), one, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["classifier", "pixelnet"])
def test_in_bfloat16_maps_and_features_are_nearly_those_of_float32(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
):
    network = request.getfixturevalue(name)
    photo = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    results = []
    for halved in (False, True):
        monkeypatch.setattr(localizing, "has_bfloat16", lambda halved=halved: halved)
        with half_precision():
            maps, features = localize(network, photo, long_side=64, scale=1, flip=True)
        assert {each.dtype for each in (maps, *features)} == {torch.float32}
        results.append([maps, *features])
    for exact, rounded in zip(*results, strict=True):
        assert 0 < (rounded - exact).norm() < 0.03 * exact.norm()


def test_torch_tells_whether_the_processor_computes_in_bfloat16(monkeypatch: pytest.MonkeyPatch):
    for capabilities, expected in (
        ({"avx512_bf16": True, "amx_bf16": False}, True),
        ({"amx_bf16": True}, True),
        ({"avx512_f": True}, False),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=capabilities: found, raising=False)
        assert localizing.has_bfloat16.__wrapped__() is expected
    monkeypatch.delattr(torch.cpu, "get_capabilities")  # as in torch 2.10
    assert localizing.has_bfloat16.__wrapped__() is False


def test_region_features_are_means_under_the_mask_and_the_colour():
    photo = np.zeros((16, 32, 3), dtype=np.uint8)
    photo[:, 16:] = 255
    regions = (np.arange(32) >= 16).astype(np.int32)[None].repeat(16, axis=0)
    step = torch.tensor([[[1.0, 1.0, 3.0, 3.0]]]).expand(2, 2, 4)
    pooled = region_features(photo, regions, [step])
    assert pooled.dtype == np.float16
    # The map is blended where the halves meet, alike on both sides.
    np.testing.assert_allclose(pooled[0, :2] + pooled[1, :2], 4, atol=1e-2)
    assert (pooled[0, :2] < 1.3).all()
    np.testing.assert_allclose(pooled[:, 2], [-1, 255 / 128 - 1], atol=1e-2)
    np.testing.assert_allclose(pooled[:, 3:], 0, atol=1e-2)
