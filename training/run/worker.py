"""Single stages of a run in a process that has torch, for a backend that has none itself.

Several processes can train one network together, such as four, each on its own GPU:

    python -m torch.distributed.run --standalone --nproc-per-node 4 -m training.run.worker RUN PHOTOS 1 pixelnet

RUN has a run.json and the results of the stages before. Each line printed is JSON: {"advance": photos}, {"result":
figures} or {"error": text, "correctable": whether the user can correct it}. The processes end when their standard input
does.
"""

import argparse
import json
import os
import sys
import threading
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

import torch

from tagmask.errors import TagmaskError
from tagmask.inputs import Precision
from tagmask.progress import Advance, silent
from training.datasets import load
from training.datasets.held_out import hold_out
from training.fitting import devices
from training.run.description import RunReference, read_description
from training.run.executor import Figures
from training.run.layout import Layout
from training.run.plan import find_stage
from training.run.start import read_start
from training.run.together import train_together
from training.run.train import export_round
from training.stages.base import PhotoStage
from training.stages.network import NetworkStage, TrainingContext


@lru_cache(maxsize=1)
def open_run(reference: RunReference) -> TrainingContext:
    """What the trainings of a run share.

    Raises RunError for a folder that holds no run, DataError and ConfigError for photos and a device that cannot be
    used.
    """
    device = devices.choose(reference.device)
    devices.save_time(device)
    description = read_description(Layout(reference.run))
    data, held_out = hold_out(load(reference.photos, classes=description.classes), description.held_out)
    return TrainingContext(
        data=data,
        run=reference.run,
        device=str(device),
        start=read_start(Layout(reference.start)) if reference.start else None,
        held_out=held_out,
    )


def device_type(name: str, *, advance: Advance = silent) -> str:
    """The device `name` as "cpu" or "cuda". Raises ConfigError if it is not available."""
    return devices.choose(name).type


def train_network(reference: RunReference, stage: NetworkStage, *, advance: Advance = silent) -> Figures:
    """Train one network, on all GPUs of this machine: {"photos": shown in all epochs, "seconds", "waiting", "losses"}.

    Raises as `open_run` does, and RunError if processes that train together fail.
    """
    context = open_run(reference)
    photos = stage.photos_shown(context.data, context.start)
    gpus = 1 if context.device == "cpu" else torch.cuda.device_count()
    if gpus > 1 and not stage.light:
        return {"photos": photos, **train_together(reference, stage, gpus, advance=advance)}
    return {"photos": photos, **_train(stage, context, advance)}


def each_photo(reference: RunReference, stage: PhotoStage, *, advance: Advance = silent) -> None:
    """A photo stage for all photos, one after the other on the run's device."""
    context = open_run(reference)
    work = stage.prepare(context.run, context.data.classes, context.device)
    for photo in context.data.photos:
        work(photo)
        advance(1)


def export_bundle(reference: RunReference, kept: int, precision: Precision, *, advance: Advance = silent) -> Figures:
    """Write the bundle of round `kept` into the run's folder; returns its figures, see `export_round`."""
    context, layout = open_run(reference), Layout(reference.run)
    return export_round(
        context, read_description(layout).settings, kept, layout.model, precision=precision, advance=advance
    )


def _train(stage: NetworkStage, context: TrainingContext, advance: Advance) -> Figures:
    result = stage.train(context, advance)
    return {"seconds": 0.0} if result is None else asdict(result)


def main() -> None:
    """Train one network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("round", type=int)
    parser.add_argument("stage")
    parser.add_argument("--start", type=Path)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    threading.Thread(target=_end_with_input, daemon=True).start()
    try:
        context = open_run(RunReference(options.run, options.photos, options.start, options.device))
        stage = find_stage(read_description(Layout(options.run)).settings, options.round, options.stage)
        assert isinstance(stage, NetworkStage)
        with devices.process_group(torch.device(context.device)):
            first = devices.rank() == 0
            result = _train(stage, context, _advance if first else silent)
    except Exception as fault:  # torchrun's own message would only name its processes
        known = isinstance(fault, TagmaskError)
        _answer({"error": str(fault) if known else f"{type(fault).__name__}: {fault}", "correctable": known})
        raise
    if first:
        _answer({"result": result})


def _advance(photos: int) -> None:
    _answer({"advance": photos})


def _end_with_input() -> None:
    """End this process with its standard input, whose other end the process that started the training holds."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os._exit(1)


def _answer(line: Figures) -> None:
    """Print a line in one write, as several processes share the pipe."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
