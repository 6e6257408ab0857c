"""Measuring a round's PixelNet the way it would be served: exported, by ONNX Runtime, at the photos' own size."""

import json

import torch

from training import atomic
from training.bundle import Supervision
from training.data.photos import TaggedPhotos
from training.evaluate import Evaluation, evaluate
from training.export import export
from training.metrics import Scores
from training.pixelnet import PixelNet
from training.predict import Predictor
from training.rounds import Run, weights_digest
from training.run import describe


def measure_round(run: Run, number: int, val: TaggedPhotos, supervision: Supervision) -> Evaluation:
    """Figures of round `number`'s PixelNet on `val`; kept in the round's folder as val.json and read from there."""
    folder = run.layout.round(number).root
    figures, model = folder / "val.json", folder / "model.onnx"
    if not figures.is_file():
        state = torch.load(run.layout.round(number).localizer, map_location="cpu", weights_only=True)
        network = PixelNet(len(run.data.classes) + 1, run.config.backbone, run.config.pixelnet.width, "random")
        network.load_state_dict(state)
        export(network, model, describe(run, number, weights_digest(state), supervision))
        atomic.write_text(figures, json.dumps(evaluate(Predictor.load(model), val, classes=val.classes).to_json()))
    told = json.loads(figures.read_text())
    scores = {name: Scores(told[name]["miou"], told[name]["iou"], len(val.photos)) for name in told}
    return Evaluation(scores["without_tags"], scores["with_tags"])
