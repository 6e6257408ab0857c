"""Runs as their stages leave them, without any training: masks are the true ones, but where a test says otherwise."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tagmask import files, masks
from tagmask.masks import read_mask
from tests.training.conftest import draw_photos
from training.config import TrainConfig, load_config
from training.datasets.photos import TaggedPhotos
from training.run.description import Description
from training.run.layout import Layout
from training.run.ledger import Ledger
from training.run.plan import run_stages
from training.stages import superpixels
from training.stages.base import MaskStage
from training.stages.decision import Decision
from training.stages.labels import Labels
from training.stages.localization import maps_file
from training.stages.masks import seen_file
from training.stages.network import NetworkStage
from training.stages.pooling import average
from training.stages.regions import Regions
from training.stages.saliency import Saliency
from training.stages.seeds import Seeds
from training.stages.superpixels import Superpixels

CONFIG = load_config(overrides={"long_side": 80, "superpixels.min_size": 20, "rounds": 2, "crf.steps": 7})


@dataclass(frozen=True)
class Finished:
    """A run that has gone through all its rounds."""

    layout: Layout
    data: TaggedPhotos

    @property
    def ledger(self) -> list[str]:
        """Its lines."""
        return self.layout.ledger.read_text().splitlines(keepends=True)

    def cut(self, lines: int) -> None:
        """Let the run have ended after its first `lines` stages."""
        self.layout.ledger.write_text("".join(self.ledger[:lines]))

    def see(self, photo: int, number: int, *labels: int) -> None:
        """Let PixelNet of round `number` see `labels` and background in a photo when no tags are given."""
        shares = np.zeros(len(self.data.classes) + 1, dtype=np.float32)
        shares[[0, *labels]] = 1 / (1 + len(labels))
        files.write_array(seen_file(self.data.photos[photo], self.layout.root, number), shares)

    def paint(self, photo: int, number: int, mask: np.ndarray) -> None:
        """Let PixelNet of round `number` be sure of `mask`, (H, W) labels, when the photo's tags are given."""
        each = self.data.photos[photo]
        maps = np.stack([mask == label for label in each.labels(self.data.classes)]).astype(np.float16)
        files.write_array(maps_file(each, self.layout.root, number), maps)


def describe(layout: Layout, classes: tuple[str, ...], photos: int, config: TrainConfig = CONFIG, **more: Any) -> None:
    """Write run.json."""
    description = Description(data_digest="ab" * 32, photos=photos, classes=classes, settings=config, **more)
    files.write_text(layout.description, description.model_dump_json())


def fill_ledger(layout: Layout, config: TrainConfig, classes: int, measured: bool = True, **last: Any) -> None:
    """A line for every stage; mIoU rises by 1 from one to the next. `last` changes the last decision."""
    ledger = Ledger(layout.ledger)
    for index, stage in enumerate(run_stages(config)):
        figures: dict[str, Any] = {"photos": 3, "seconds": 60.0}
        if isinstance(stage, NetworkStage):
            figures["losses"] = [0.5, 0.25]
        elif isinstance(stage, Decision):
            figures |= {"consistency": 0.9, "coverage": 0.4, "agreement": 0.8, "kept": True, "why": ""}
            figures |= last if stage.round == config.rounds else {}
        elif measured and isinstance(stage, MaskStage):
            figures |= {"miou": 50.0 + index, "iou": [50.0 + index] * (classes + 1)}
            if stage.sparse:
                figures |= {"precision": 90.0, "sure": 60.0}
        ledger.add(*stage.id, **figures)


def make_run(root: Path, photos: int = 3, config: TrainConfig = CONFIG) -> Finished:
    """A finished run on drawn photos below `root`; each photo's tags are seen in it."""
    data, layout = draw_photos(root / "data", photos), Layout(root / "run")
    describe(layout, data.classes, photos, config)
    run, folder = Finished(layout, data), layout.root
    for index, photo in enumerate(data.photos):
        for kind in (Superpixels, Saliency):
            kind.of(config, 0).prepare(folder, data.classes)(photo)
        assert photo.mask is not None
        truth, labels = read_mask(photo.mask), photo.labels(data.classes)
        regions = superpixels.read(photo, folder)
        shares = np.stack([average((truth == label)[None].astype(np.float32), regions)[:, 0]
                           for label in labels], axis=1)  # fmt: skip
        files.write_array(maps_file(photo, folder, 0), np.stack([truth == label for label in labels[1:]]) * 1.0)
        for number in range(1, config.rounds + 1):
            files.write_array(
                Seeds.file_of(photo, folder, number), np.array(labels, dtype=np.uint8)[shares.argmax(axis=1)]
            )
            files.write_array(Regions.file_of(photo, folder, number), shares.astype(np.float16))
            masks.write_mask(Labels.file_of(photo, folder, number), truth)
            run.paint(index, number, truth)
            run.see(index, number, *labels[1:])
    fill_ledger(layout, config, len(data.classes))
    return run


def without_masks(data: TaggedPhotos) -> TaggedPhotos:
    """The same photos, whose masks nobody knows."""
    return replace(data, photos=tuple(replace(photo, mask=None) for photo in data.photos), mask_classes=())


@pytest.fixture
def run(tmp_path: Path) -> Finished:
    """A finished run of two rounds on three photos: a cat, a dog, both."""
    return make_run(tmp_path)
