"""The executor of a run: it follows the plan and leaves the work to a backend.

Every finished stage has a line in the run's ledger. A run that was stopped skips the stages that have one and the
photos whose files exist, and resumes a training from its last checkpoint.

There are two backends: `training.run.local.LocalBackend`, this machine's processes, and
`flows.learning.flow.PrefectBackend`, tasks on whatever Prefect runs them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from training.config import TrainConfig
from training.run.ledger import Ledger, Line
from training.run.plan import round_stages
from training.stages.base import PhotoStage, Stage
from training.stages.decision import Decision
from training.stages.network import NetworkStage

Figures = dict[str, Any]
"""What a stage adds to its line of the ledger, as JSON values; "photos" and "seconds" at least."""

Watch = Callable[[Line], None]
"""What is told of each finished stage."""


class Backend(ABC):
    """Where stages run. Each method computes one stage for all photos and returns its figures."""

    @abstractmethod
    def each_photo(self, stage: PhotoStage) -> Figures: ...

    @abstractmethod
    def train(self, stage: NetworkStage) -> Figures: ...

    @abstractmethod
    def decide(self, stage: Decision) -> Figures: ...


def execute(config: TrainConfig, ledger: Ledger, backend: Backend, watch: Watch | None = None) -> int:
    """Run every stage that has no line in the ledger, until all rounds are done or one is dropped.

    `watch` gets the line of each stage in order, also of those that were finished before. Returns the number of the
    round that is kept.
    """
    for number in range(config.rounds + 1):
        for stage in round_stages(config, number):
            line = execute_stage(stage, ledger, backend)
            if watch:
                watch(line)
        if number and not line["kept"]:
            return number - 1
    return config.rounds


def execute_stage(stage: Stage, ledger: Ledger, backend: Backend) -> Line:
    """Run `stage` unless the ledger has its line; returns the line."""
    if line := ledger.find(*stage.id):
        return line
    try:
        figures = _compute(stage, backend)
    except BrokenProcessPool as fault:
        fault.add_note(stage.title)  # for `killed_in`
        raise
    return ledger.add(*stage.id, **figures)


def _compute(stage: Stage, backend: Backend) -> Figures:
    match stage:
        case NetworkStage():
            return backend.train(stage)
        case PhotoStage():
            return backend.each_photo(stage)
        case Decision():
            return backend.decide(stage)
        case _:
            raise TypeError(f"{stage.title}: neither a photo stage, a network stage nor a decision")
