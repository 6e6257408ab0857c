"""The order of things: preparation, then round after round, and which round is kept.

Every finished step has a line in the run's ledger. A run that was stopped passes over the steps that have one and
over the photos whose files are there, and goes on from the last checkpoint of a training.
"""

import hashlib
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from tagmask.progress import Advance, Progress
from training.evaluation import measure
from training.evaluation.metrics import Confusion
from training.fitting import devices
from training.networks.trainer import Trainer
from training.parallel import exhaust, map_photos, processes
from training.run.decision import decide
from training.run.layout import Layout
from training.run.ledger import Ledger, Line
from training.run.plan import TORCH, Step, in_order
from training.stages.work import photo_work

SCORED = {"maps": "maps", "masks": "maps"} | {each: each for each in ("seeds", "regions", "refined", "labels")}
"""What `training.evaluation.measure.stage_mask` calls the masks of a stage, where they can be measured."""


@dataclass(frozen=True)
class Run:
    """One training run: what it learns from and where it writes (`trainer`), and how it computes."""

    trainer: Trainer
    workers: int
    ledger: Ledger
    progress: Progress

    @property
    def layout(self) -> Layout:
        return self.trainer.layout


def run_rounds(run: Run) -> int:
    """Run everything that the ledger does not have yet; returns the number of the round that is kept.

    Under `torchrun` every process calls this; all train together, the first alone does the rest.
    """
    return in_order(run.trainer.config, partial(run_step, run))


def run_step(run: Run, step: Step) -> Line:
    """Run `step` unless the ledger has it; returns its line."""
    if run.ledger.find(*step.name) is None:
        match step.kind:
            case "network":
                _fit(run, step)
            case "photos":
                _by_first(run, step, partial(_each_photo, run, step))
            case "decision":
                _by_first(run, step, partial(_decide, run, step))
    devices.wait_for_all()
    run.ledger.reload()
    line = run.ledger.find(*step.name)
    assert line is not None
    return line


def _decide(run: Run, step: Step, advance: Advance) -> dict[str, Any]:
    return decide(run.trainer.data, run.layout, run.ledger, run.trainer.config.keep, step.round)


def weights_digest(state: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 hex digest of a state dict: names, shapes and bytes, in order of name."""
    total = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        total.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        total.update(tensor.numpy().tobytes())
    return total.hexdigest()


def _each_photo(run: Run, step: Step, advance: Advance) -> dict[str, Any]:
    photos, data = run.trainer.data.photos, run.trainer.data
    work = photo_work(step, run.layout, data.classes, run.trainer.config, str(run.trainer.device))
    with _pool(run, step) as (pool, workers):
        exhaust(map_photos(work, photos, pool=pool, workers=workers, advance=advance))
    return {}


@contextmanager
def _pool(run: Run, step: Step) -> Iterator[tuple[Executor, int]]:
    """Processes; for networks threads, on CPU one photo a thread, as torch itself scales less."""
    if step.stage not in TORCH:
        with processes(run.workers) as pool:
            yield pool, run.workers
        return
    threads = torch.get_num_threads()
    workers = 1 if run.trainer.device.type == "cuda" else threads
    torch.set_num_threads(max(1, threads // workers))
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool, workers
    finally:
        torch.set_num_threads(threads)


def _fit(run: Run, step: Step) -> None:
    """A training, by every process together."""
    photos = run.trainer.photos_shown(step)
    with run.progress.stage(step.title, photos) as advance:
        fitted = run.trainer.train(step, advance)
    if devices.rank() == 0:
        told = {} if fitted is None else {"seconds": fitted.seconds, "waiting": fitted.waiting, "losses": fitted.losses}
        run.ledger.add(step.round, step.stage, photos=photos, **told)


def _by_first(run: Run, step: Step, work: Any) -> None:
    """A step of the first process alone: run it, measure it if it can be, write its line."""
    if devices.rank() != 0:
        return
    photos = len(run.trainer.data.photos)
    with run.progress.stage(step.title, photos) as advance:
        begun = time.perf_counter()
        told = work(advance)
        seconds = time.perf_counter() - begun
    run.ledger.add(step.round, step.stage, photos=photos, seconds=seconds, **told, **_score(run, step))


def _score(run: Run, step: Step) -> dict[str, Any]:
    """mIoU of a step's masks where true masks are at hand, and for seeds their precision and coverage."""
    data = run.trainer.data
    photos = [photo for photo in data.photos if photo.mask is not None]
    if step.stage not in SCORED or not photos:
        return {}
    total = Confusion(len(data.classes) + 1)
    work = partial(
        measure.stage_counts,
        stage=SCORED[step.stage],
        layout=run.layout,
        number=step.round,
        classes=data.classes,
        mask_classes=data.mask_classes,
    )
    with (
        processes(run.workers) as pool,
        run.progress.stage(f"{step.title}, measured", len(photos)) as advance,
    ):
        for counts in map_photos(work, photos, pool=pool, workers=run.workers, advance=advance):
            if counts is not None:
                total.counts += counts
    figures: dict[str, Any] = {"miou": total.miou(), "iou": [None if np.isnan(x) else float(x) for x in total.iou()]}
    if step.stage == "seeds":
        sure = total.counts[:, :-1]
        figures["precision"] = 100 * float(np.trace(sure) / max(1, sure.sum()))
        figures["sure"] = 100 * float(sure.sum() / max(1, total.counts.sum()))
    return figures
