"""Networks measured the way they would be served: exported, by ONNX Runtime, at the photos' own size."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from tagmask import files
from tagmask.masks import read_mask
from tagmask.metadata import Supervision
from tagmask.scores import Evaluation, Scores
from tagmask.segmenter import Segmenter
from training.config import TrainConfig
from training.datasets.photos import Photo, TaggedPhotos
from training.evaluation.evaluate import evaluate
from training.evaluation.measure import truth_table
from training.run.description import read_description
from training.run.layout import Layout
from training.run.ledger import Ledger
from training.run.train import export_round
from training.stages.network import TrainingContext

Mask = NDArray[np.uint8]


@dataclass(frozen=True)
class Run:
    """A run of `tagmask train` with its settings and its ledger."""

    context: TrainingContext
    config: TrainConfig
    ledger: Ledger

    @classmethod
    def read(cls, folder: Path, data: TaggedPhotos, device: str = "cpu") -> Self:
        """The run in `folder`, which was trained on `data`. Raises RunError if it cannot be read."""
        layout = Layout(folder)
        context = TrainingContext(data, folder, device)
        return cls(context, read_description(layout).settings, Ledger(layout.ledger))

    @property
    def kept(self) -> dict[int, bool]:
        """Whether a round was kept, by its number, for each round that has been decided on."""
        return {line["round"]: line["kept"] for line in self.ledger if line["stage"] == "decision"}

    def measure(self, number: int, val: TaggedPhotos, supervision: Supervision | None = None) -> Evaluation:
        """Figures of round `number`'s PixelNet on `val`; the bundle is left in the round's folder as model.onnx."""
        model = self.context.run / f"round-{number}" / "model.onnx"
        if not model.is_file():
            export_round(self.context, self.config, number, model, supervision=supervision)
        return measure_bundle(model, val)


def measure_bundle(model: Path, val: TaggedPhotos) -> Evaluation:
    """Figures of a bundle on `val`; kept beside it by the photos' digest, and read from there the next time."""
    figures = model.with_name(f"figures-{val.digest()[:12]}.json")
    if not figures.is_file():
        files.write_text(figures, json.dumps(evaluate(Segmenter.load(model), val, classes=val.classes).to_json()))
    kept = json.loads(figures.read_text())
    scores = {name: Scores(kept[name]["miou"], kept[name]["iou"], len(val.photos)) for name in kept}
    return Evaluation(scores["without_tags"], scores["with_tags"])


def measure_ceiling(ceiling: Path, val: TaggedPhotos) -> list[Evaluation]:
    """Figures on `val` of each pass of `benchmarks.ceiling`, whose folder is `ceiling`, the first pass first."""
    passes = sorted(ceiling.glob("round-*/model.onnx"), key=lambda path: int(path.parent.name.removeprefix("round-")))
    return [measure_bundle(path, val) for path in passes]


def miou(measured: Evaluation) -> float:
    """mIoU without tags, 0..100; 0 where no class has a figure."""
    return measured.without_tags.miou or 0.0


def true_mask(photo: Photo, data: TaggedPhotos) -> Mask:
    """The true mask of a photo of `data`: (H, W) uint8 labels of its classes, 255 void."""
    assert photo.mask is not None, f"{photo.id} has no true mask"
    mask: Mask = truth_table(data.mask_classes, data.classes)[read_mask(photo.mask)]
    return mask


def scaled(mask: Mask, truth: Mask) -> Mask:
    """`mask`, (H, W) uint8 labels, at the size of `truth`."""
    return cv2.resize(mask, truth.shape[::-1], interpolation=cv2.INTER_NEAREST).astype(np.uint8)
