"""Settings of a run that trains in seconds; what it learns is worth nothing. Needs no torch."""

import json
from pathlib import Path

TINY: dict[str, str | int | float] = {
    "backbone": "test_efficientnet",
    "weights": "random",
    "rounds": 2,
    "long_side": 64,
    "superpixels.min_size": 20,
    "classifier.fit.epochs": 2,
    "classifier.fit.batch": 4,
    "classifier.augment.crop": 32,
    "regiontagger.fit.epochs": 1,
    "regiontagger.fit.least_steps": 1,
    "regiontagger.fit.batch": 4,
    "regiontagger.width": 16,
    "regionnet.fit.epochs": 1,
    "regionnet.fit.batch": 4,
    "regionnet.width": 16,
    "pixelnet.fit.epochs": 2,
    "pixelnet.fit.least_steps": 1,
    "pixelnet.fit.batch": 4,
    "pixelnet.later_fit.epochs": 1,
    "pixelnet.later_fit.least_steps": 1,
    "pixelnet.later_fit.batch": 4,
    "pixelnet.width": 8,
    "pixelnet.augment.crop": 32,
    "decision.consistency_loss": 1.0,
    "decision.agreement": 0.0,
    "decision.painted_loss": 1.0,
}


def write_tiny(path: Path, **others: int) -> Path:
    """Write TINY, and others, as a file for `--config`; returns its `path`."""
    path.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in (TINY | others).items()))
    return path
