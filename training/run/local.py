"""The local backend: photo stages in processes of this machine, trainings in this one, or by `torchrun` in several."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from tagmask.progress import Advance, Progress
from training.datasets.parallel import map_photos
from training.evaluation.measure import stage_counts
from training.evaluation.metrics import Confusion, nan_to_none
from training.fitting import devices
from training.run.executor import Backend, Figures
from training.run.ledger import Ledger, Line
from training.stages.base import MaskStage, PhotoStage, Stage
from training.stages.decision import Decision
from training.stages.network import NetworkStage, TrainingContext


class SharedLedger(Ledger):
    """The ledger of all processes that train together: the first adds a line, the others wait for it."""

    def add(self, number: int, stage: str, **figures: Any) -> Line:
        if devices.rank() == 0:
            super().add(number, stage, **figures)
        devices.wait_for_all()
        self.reload()
        line = self.find(number, stage)
        assert line is not None
        return line


@dataclass(frozen=True)
class LocalBackend(Backend):
    """The `workers` processes of `pool` run the photo stages; `ledger` has the decisions of earlier rounds.

    Under `torchrun` every process has one: all train together, the first alone does the rest.
    """

    context: TrainingContext
    ledger: Ledger
    pool: Executor
    workers: int
    progress: Progress

    def each_photo(self, stage: PhotoStage) -> Figures:
        return self._by_first(stage, partial(self._each_photo, stage))

    def decide(self, stage: Decision) -> Figures:
        previous = self.ledger.find(stage.round - 1, stage.name)
        return self._by_first(stage, lambda _: stage.decide(self.context.data, self.context.run, previous))

    def train(self, stage: NetworkStage) -> Figures:
        photos = stage.photos_shown(self.context.data, self.context.start)
        with self.progress.stage(stage.title, photos + stage.photos_after(self.context.data)) as advance:
            result = stage.train(self.context, advance)
        return {"photos": photos, **({} if result is None else asdict(result))}

    def _by_first(self, stage: Stage, work: Callable[[Advance], Figures]) -> Figures:
        """`work` by the first process alone, timed, and measured if true masks are available."""
        if devices.rank() != 0:
            return {}
        photos = len(self.context.data.photos)
        with self.progress.stage(stage.title, photos) as advance:
            begun = time.perf_counter()
            figures = work(advance)
            seconds = time.perf_counter() - begun
        measured = self._measure(stage) if isinstance(stage, MaskStage) else {}
        return {"photos": photos, "seconds": seconds, **figures, **measured}

    def _each_photo(self, stage: PhotoStage, advance: Advance) -> Figures:
        data = self.context.data
        figures = stage.begin(data, self.context.run)
        work = stage.prepare(self.context.run, data.classes, self.context.device)
        with self._pool(stage) as (pool, workers):
            for _ in map_photos(work, data.photos, pool=pool, workers=workers, advance=advance):
                pass
        return figures

    @contextmanager
    def _pool(self, stage: PhotoStage) -> Iterator[tuple[Executor, int]]:
        """Processes; for networks threads, on CPU one photo per thread, as torch itself scales less."""
        if not stage.needs_torch:
            yield self.pool, self.workers
            return
        threads = torch.get_num_threads()
        workers = threads if self.context.device == "cpu" else 1
        torch.set_num_threads(max(1, threads // workers))
        try:
            with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                yield pool, workers
        finally:
            torch.set_num_threads(threads)

    def _measure(self, stage: MaskStage) -> Figures:
        """mIoU of a stage's masks against true masks; for sparse ones also precision and coverage."""
        data = self.context.data
        photos = [photo for photo in data.photos if photo.mask is not None]
        if not photos:
            return {}
        total = Confusion(len(data.classes) + 1)
        work = partial(
            stage_counts, stage=stage, run=self.context.run, classes=data.classes, mask_classes=data.mask_classes
        )
        with self.progress.stage(f"{stage.title}, measured", len(photos)) as advance:
            for counts in map_photos(work, photos, pool=self.pool, workers=self.workers, advance=advance):
                if counts is not None:
                    total.counts += counts
        figures: Figures = {"miou": total.miou(), "iou": [nan_to_none(value) for value in total.iou()]}
        if stage.sparse:
            sure = total.counts[:, :-1]
            figures["precision"] = 100 * float(np.trace(sure) / max(1, sure.sum()))
            figures["sure"] = 100 * float(sure.sum() / max(1, total.counts.sum()))
        return figures
