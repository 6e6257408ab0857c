"""Measuring networks the way they would be served: exported, by ONNX Runtime, at the photos' own size."""

import json
from pathlib import Path

from tagmask import files
from tagmask.bundle import Supervision
from tagmask.scores import Evaluation, Scores
from tagmask.segmenter import Segmenter
from training.config import TrainConfig
from training.datasets.photos import TaggedPhotos
from training.evaluation.evaluate import evaluate
from training.run.train import export_round
from training.stages.network import TrainingContext


def measure_round(
    context: TrainingContext, config: TrainConfig, number: int, val: TaggedPhotos, supervision: Supervision
) -> Evaluation:
    """Figures of round `number`'s PixelNet on `val`; the bundle is left in the round's folder as model.onnx."""
    model = context.run / f"round-{number}" / "model.onnx"
    if not model.is_file():
        export_round(context, config, number, model, supervision=supervision)
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
