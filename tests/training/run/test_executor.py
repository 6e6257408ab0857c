from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from tagmask.errors import RunError
from training.config import TrainConfig
from training.datasets.parallel import processes
from training.run.executor import Backend, Figures, execute
from training.run.ledger import Ledger
from training.stages.base import PhotoStage
from training.stages.decision import Decision
from training.stages.network import NetworkStage


class Killed(Backend):
    def each_photo(self, stage: PhotoStage) -> Figures:
        raise BrokenProcessPool

    def train(self, stage: NetworkStage) -> Figures:
        raise NotImplementedError

    def decide(self, stage: Decision) -> Figures:
        raise NotImplementedError


def test_the_stage_in_which_a_process_was_killed_is_named(tmp_path: Path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    named = r"one of 2 worker processes was killed in superpixels, most likely.*fewer --workers"
    with pytest.raises(RunError, match=named), processes(2):
        execute(TrainConfig(), ledger, Killed())
