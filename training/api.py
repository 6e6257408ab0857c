"""The child process of `tagmask.train` and `tagmask.evaluate`; `tagmask.api` describes its input and output."""

import dataclasses
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from tagmask.bundle import read_metadata
from tagmask.cores import cores
from tagmask.errors import TagmaskError
from tagmask.inputs import local_path
from tagmask.progress import Advance
from tagmask.segmenter import Segmenter
from training.config import load_config
from training.datasets import load
from training.datasets.check import check
from training.evaluation.evaluate import evaluate as evaluate_masks
from training.fitting.process import spin_briefly


class Events:
    """Writes events as JSON lines; a `tagmask.progress.Progress`."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def send(self, **event: Any) -> None:
        self._file.write(json.dumps(event) + "\n")
        self._file.flush()

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Advance]:
        """Report stage `name` of `total` photos."""
        done = 0

        def advance(photos: int) -> None:
            nonlocal done
            done += photos
            self.send(stage=name, done=done, total=total)

        advance(0)
        yield advance


def train(
    events: Events,
    *,
    data: list[str],
    out: str,
    split: str | None,
    classes: list[str] | None,
    none: list[str] | None,
    format: Any,
    corrections: str | None,
    accepted: bool,
    hints: str | None,
    config: str | None,
    preset: Any,
    settings: dict[str, Any],
    device: str,
    workers: int | None,
    precision: Any,
    start: str | None,
    tensorboard: str | None,
    resume: bool,
) -> dict[str, Any]:
    """The fields of a `tagmask.api.Run`."""
    options = load_config(Path(config) if config else None, settings, preset)
    folder, earlier, events_folder = local_path(out), _optional(start), _optional(tensorboard)
    photos = load(
        data, split=split, classes=classes, none=none, format=format, corrections=corrections, accepted=accepted,
        hints=hints,
    )  # fmt: skip
    workers = workers or cores()
    with events.stage("checking photos", len(photos.photos)) as advance:
        checked = check(photos, workers=workers, advance=advance).data

    from training.fitting import devices
    from training.run.train import train as run

    devices.save_time(devices.choose(device))
    run(
        checked, folder, options, device=device, resume=resume, workers=workers, precision=precision,
        start=earlier, tensorboard=events_folder, progress=events,
    )  # fmt: skip
    model = folder / "model.onnx"
    metadata = read_metadata(model)
    figures = dict(metadata.metrics)
    return {
        "model": str(model),
        "version": metadata.version,
        "round": metadata.rounds,
        "painted": figures.pop("painted"),
        "estimated_iou": figures.pop("estimate")["iou"],
        "measured": metadata.measured and dataclasses.asdict(metadata.measured),
        "figures": figures,
        "left_out": [dataclasses.asdict(fault) for fault in checked.faults],
    }


def evaluate(
    events: Events,
    *,
    model: str,
    data: list[str],
    split: str | None,
    classes: list[str] | None,
    none: list[str] | None,
    format: Any,
    crf: bool,
    device: str,
) -> dict[str, Any]:
    """The fields of a `tagmask.scores.Evaluation`."""
    with Segmenter.load(model, device=device) as segmenter:
        photos = load(data, split=split, none=none, format=format)
        crf_config = segmenter.crf if crf else None
        return dataclasses.asdict(evaluate_masks(segmenter, photos, classes=classes, crf=crf_config, progress=events))


def _optional(path: str | None) -> Path | None:
    return local_path(path) if path else None


def main() -> None:
    """Serve the one request on standard input."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have disabled it for background jobs
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as stdout:
        os.dup2(2, 1)  # what libraries print is not an event
        events = Events(stdout)
        request = json.loads(sys.stdin.readline())
        threading.Thread(target=_end_with_parent, daemon=True).start()
        functions: dict[str, Callable[..., dict[str, Any]]] = {"train": train, "evaluate": evaluate}
        try:
            events.send(result=functions[request["function"]](events, **request["arguments"]))
        except TagmaskError as error:
            events.send(error={"name": type(error).__name__, "message": str(error)})


def _end_with_parent() -> None:
    """Interrupt this process when its standard input is closed, as it is when the parent has ended."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    spin_briefly()
    main()
