"""Measuring a round's PixelNet the way it would be served: exported, by ONNX Runtime, at the photos' own size."""

import json

from training import atomic
from training.bundle import Supervision
from training.data.photos import TaggedPhotos
from training.evaluate import Evaluation, evaluate
from training.metrics import Scores
from training.predict import Predictor
from training.rounds import Run
from training.run import export_round


def measure_round(run: Run, number: int, val: TaggedPhotos, supervision: Supervision) -> Evaluation:
    """Figures of round `number`'s PixelNet on `val`; kept in the round's folder as val.json and read from there."""
    folder = run.layout.round(number).root
    figures, model = folder / "val.json", folder / "model.onnx"
    if not figures.is_file():
        export_round(run, number, model, supervision=supervision)
        atomic.write_text(figures, json.dumps(evaluate(Predictor.load(model), val, classes=val.classes).to_json()))
    told = json.loads(figures.read_text())
    scores = {name: Scores(told[name]["miou"], told[name]["iou"], len(val.photos)) for name in told}
    return Evaluation(scores["without_tags"], scores["with_tags"])
