"""Whole runs with backbones of other kinds than the default: from tagged photos to masks of the exported network."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

import training.run.train
from tagmask.bundle import read_metadata
from tagmask.photos import read_photo
from tagmask.segmenter import Segmenter
from tests.tiny import TINY
from tests.training.conftest import draw_photos
from training.config import load_config
from training.datasets.photos import Photo
from training.networks.pixelnet import PixelNet
from training.run.layout import Layout
from training.run.train import train
from training.stages.pixelnet import PixelNetTraining


@pytest.mark.parametrize("backbone", ["test_convnext", "test_vit"])
def test_from_photos_to_masks(backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A network with layer norm, and a transformer; one of the photos is narrower than a patch."""
    monkeypatch.setattr(training.run.train, "processes", ThreadPoolExecutor)  # processes take longer to start
    Image.new("RGB", (90, 2)).save(path := tmp_path / "narrow.png")
    data = draw_photos(tmp_path, 6)
    data = replace(data, photos=(data.photos[0], Photo("narrow", path, ("cat",)), *data.photos[1:]))
    config = load_config(overrides=TINY | {"backbone": backbone, "rounds": 1})
    result = train(data, tmp_path / "run", config, device="cpu")
    assert read_metadata(result.model).backbone == backbone
    network = PixelNet.load(PixelNetTraining.weights_of(Layout(tmp_path / "run").root, 1), backbone)
    segmenter = Segmenter.load(result.model, device="cpu")
    photo = read_photo(data.photos[0].path, 64)
    assert max(photo.shape) == 64
    assert segmenter.segment(photo, tags=data.classes).mask.shape == photo.shape[:2]
    seen = segmenter.predict(photo).probabilities.argmax(axis=0)
    with torch.inference_mode():
        expected = network(torch.from_numpy(photo).permute(2, 0, 1)[None].float())[0].argmax(dim=0).numpy()
    assert (seen == expected).mean() > 0.99
