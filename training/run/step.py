"""Single steps of a run that need torch, for whoever runs the steps apart from one another.

A network may be trained by as many processes as `torchrun` starts, here four on their own GPUs:

    python -m torch.distributed.run --standalone --nproc-per-node 4 -m training.run.step RUN PHOTOS 1 pixelnet

RUN has a run.json and what the steps before wrote. The last line that is printed is what the training told, as JSON,
or its fault.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from tagmask.bundle import Precision
from tagmask.errors import RunError, TagmaskError
from tagmask.progress import Advance, Silent, silent
from training.datasets import load
from training.fitting import devices
from training.networks.start import read_start
from training.networks.trainer import Trainer
from training.run.description import Apart, read_description
from training.run.layout import Layout
from training.run.ledger import Ledger
from training.run.plan import Name, Step, steps
from training.run.rounds import Run
from training.run.train import export_round, initial_weights
from training.stages.work import photo_work


@lru_cache(maxsize=1)
def open_trainer(apart: Apart) -> Trainer:
    """What trains the networks of a run.

    Raises RunError for a folder that is no run, DataError and ConfigError for photos and a device that cannot be used.
    """
    layout = Layout(apart.run)
    asked = read_description(layout)
    return Trainer(
        data=load(apart.photos, classes=asked.classes),
        layout=layout,
        config=asked.settings,
        weights=initial_weights(asked.settings),
        device=devices.choose(apart.device),
        start=read_start(Layout(apart.start)) if apart.start else None,
    )


def device_type(name: str, *, advance: Advance = silent) -> str:
    """What the device `name` is here: "cpu" or "cuda". Raises ConfigError when it is not there."""
    return devices.choose(name).type


def train_network(apart: Apart, name: Name, *, advance: Advance = silent) -> dict[str, Any]:
    """Train one network, on all GPUs there are: {"photos": seen in all epochs, "seconds", "waiting", "losses"}.

    Raises as `open_trainer` does, and RunError when processes that train together fail.
    """
    trainer = open_trainer(apart)
    step = _step(trainer, name)
    seen = trainer.photos_shown(step)
    gpus = torch.cuda.device_count() if trainer.device.type == "cuda" else 1
    if gpus > 1 and step.stage != "regionnet":  # which is small
        return {"photos": seen, **train_together(apart, step, gpus)}
    fitted = trainer.train(step, advance)
    return {"photos": seen, **({"seconds": 0.0} if fitted is None else asdict(fitted))}


def each_photo(apart: Apart, name: Name, *, advance: Advance = silent) -> None:
    """A step of single photos for all of them, one after the other on the run's device."""
    trainer = open_trainer(apart)
    work = photo_work(_step(trainer, name), trainer.layout, trainer.data.classes, trainer.config, str(trainer.device))
    for photo in trainer.data.photos:
        work(photo)
        advance(1)


def export_bundle(apart: Apart, kept: int, precision: Precision, *, advance: Advance = silent) -> str:
    """Write the bundle of round `kept` into the run's folder; returns its weights digest."""
    trainer = open_trainer(apart)
    run = Run(trainer, 1, Ledger(trainer.layout.ledger), Silent())
    return export_round(run, kept, trainer.layout.model, precision=precision)


def train_together(apart: Apart, step: Step, processes: int) -> dict[str, Any]:
    """Train a network by several processes. Raises RunError with the end of what they said when they fail."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command += ["-m", "training.run.step", str(apart.run), str(apart.photos), str(step.round), step.stage]
    command += ["--device", apart.device, *(["--start", str(apart.start)] if apart.start else [])]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    told: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1]) if ended.stdout else {}
    if ended.returncode:
        why = told.get("fault") or ended.stderr.strip()[-2000:]
        raise RunError(f"{step.title}: {processes} processes could not train it: {why}")
    return told


def _step(trainer: Trainer, name: Name) -> Step:
    return next(step for step in steps(trainer.config) if step.name == name)


def main() -> None:
    """Train one network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("round", type=int)
    parser.add_argument("stage")
    parser.add_argument("--start", type=Path)
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    try:
        trainer = open_trainer(Apart(given.run, given.photos, given.start, given.device))
        with devices.process_group(trainer.device):
            fitted = trainer.train(_step(trainer, (given.round, given.stage)))
            told = asdict(fitted) if fitted else {"seconds": 0.0}
            first = devices.rank() == 0
    except TagmaskError as fault:  # torchrun would tell of its processes instead
        print(json.dumps({"fault": str(fault)}))
        sys.exit(1)
    if first:
        print(json.dumps(told))


if __name__ == "__main__":
    main()
