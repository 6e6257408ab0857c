"""One run from tagged photos to a bundle: what `tagmask train` does."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from training import atomic, devices
from training.backbones import Weights
from training.bundle import Metadata
from training.config import TrainConfig
from training.data.photos import TaggedPhotos
from training.errors import RunError
from training.export import export
from training.layout import Layout
from training.ledger import Ledger
from training.pixelnet import PixelNet
from training.progress import Progress, Silent
from training.rounds import Run, run_rounds, weights_digest


@dataclass(frozen=True)
class Outcome:
    """What a run ended with: its bundle, the ledger, and the round whose PixelNet the bundle holds."""

    model: Path
    ledger: Ledger
    kept: int
    weights_digest: str


def train(
    data: TaggedPhotos,
    out: Path,
    config: TrainConfig,
    *,
    device: str = "auto",
    resume: bool = False,
    workers: int = 1,
    precision: str = "fp32",
    progress: Progress | None = None,
) -> Outcome:
    """Learn from `data`'s tags and write everything to the folder `out`, `out`/model.onnx last.

    `workers` processes run the per-photo stages; the networks train on `device` ("auto", "cpu" or "cuda"). With
    `resume` a run that was stopped goes on, and a finished one is returned as it is.
    Raises RunError when `out` holds a run and `resume` is not set, or a run of other data or settings.
    """
    layout = Layout(out)
    where = devices.choose(device)
    with devices.process_group(where):
        if devices.rank() == 0:
            _begin(layout, data, config, resume)
        devices.wait_for_all()
        ledger = Ledger(layout.ledger)
        weights: Weights = Path(config.weights) if config.weights not in (None, "random") else config.weights  # type: ignore
        run = Run(data, layout, config, weights, where, workers, ledger, progress or Silent())
        kept = run_rounds(run)
        state = torch.load(layout.round(kept).localizer, map_location="cpu", weights_only=True)
        digest = weights_digest(state)
        if devices.rank() == 0 and ledger.find(kept, "export") is None:
            network = PixelNet(len(data.classes) + 1, config.backbone, config.pixelnet.width, "random")
            network.load_state_dict(state)
            export(network.eval(), layout.model, describe(run, kept, digest, precision), precision=precision)
            ledger.add(kept, "export", file=layout.model.name, weights_digest=digest)
        devices.wait_for_all()
    return Outcome(layout.model, ledger, kept, digest)


def describe(run: Run, kept: int, digest: str, precision: str) -> Metadata:
    """The bundle's metadata."""
    raise NotImplementedError
