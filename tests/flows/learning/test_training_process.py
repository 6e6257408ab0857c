import errno
import multiprocessing
import os
import signal
from collections.abc import Iterator
from multiprocessing.process import BaseProcess

import psutil
import pytest

from flows.learning import training_process
from flows.learning.training_process import TrainingProcess
from tagmask.errors import DataError, RunError
from training.config import TrainConfig
from training.run import worker
from training.run.description import RunReference
from training.run.plan import find_stage


@pytest.fixture
def others() -> list[psutil.Process]:
    """Processes that other tests share."""
    return spawned()


@pytest.fixture
def process(others: list[psutil.Process]) -> Iterator[TrainingProcess]:
    with TrainingProcess("cpu") as process:
        yield process


def spawned() -> list[psutil.Process]:
    return [each for each in psutil.Process().children() if "spawn_main" in " ".join(each.cmdline())]


def test_it_works_and_tells_what_is_wrong_until_it_is_killed(others, process, tmp_path):
    assert process.device == "cpu"
    stage = find_stage(TrainConfig(), 0, "class_maps")
    with pytest.raises(RunError, match="not a run, as it has no run"):
        process.run("each_photo", RunReference(tmp_path, tmp_path / "list.jsonl"), stage)
    (own,) = set(spawned()) - set(others)
    own.kill()
    for _ in range(2):  # the second time it is known to be gone
        with pytest.raises(RunError, match=r"the training process was killed in class_maps, .*smaller batch"):
            process.run("each_photo", RunReference(tmp_path, tmp_path / "list.jsonl"), stage)


def test_it_ends_at_once_when_the_flow_fails(others):
    started: list[BaseProcess] = []

    def failing() -> None:
        before = set(multiprocessing.active_children())
        with TrainingProcess("cpu"):
            started.extend(set(multiprocessing.active_children()) - before)
            raise DataError("a photo is gone")

    with pytest.raises(DataError):
        failing()
    (process,) = started
    assert process.exitcode == -signal.SIGTERM  # it was still loading torch
    assert spawned() == others


def test_a_full_disk_is_told_as_such(monkeypatch):
    def full(*, advance: object) -> None:
        try:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            raise RuntimeError("unexpected pos 704 vs 598")  # noqa: B904  # as torch.save does

    monkeypatch.setattr(worker, "device_type", full)
    with pytest.raises(OSError, match="No space left"):
        training_process._run("device_type", ())


def test_what_a_loader_tells_is_told_without_its_traceback(monkeypatch):
    from torch.utils.data import DataLoader, Dataset

    class Gone(Dataset[int]):
        def __getitem__(self, index: int) -> int:
            raise DataError("/photos/a.jpg: photo not found; put it back")

        def __len__(self) -> int:
            return 1

    def load(*, advance: object) -> None:
        next(iter(DataLoader(Gone(), num_workers=1, multiprocessing_context="fork")))

    monkeypatch.setattr(worker, "device_type", load)
    with pytest.raises(DataError) as raised:
        training_process._run("device_type", ())
    assert str(raised.value) == "/photos/a.jpg: photo not found; put it back"
