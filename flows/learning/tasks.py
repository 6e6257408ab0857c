"""Stages as Prefect tasks. Their files are in the workspace under the key of everything that decides them.

A task's result, a few figures, is in the same folder (`stages/<stage>-<key>/done/`) and is written last: a task whose
result exists does not run again, whichever flow needs it.

This module does not import torch, as processes that only cut superpixels would load it too.
"""

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
from prefect import Task, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.client.schemas.objects import State, TaskRun
from prefect.concurrency.sync import concurrency
from prefect.context import TaskRunContext
from prefect.exceptions import ObjectAlreadyExists

from flows.collection.lists import Shard
from flows.learning.training_process import TrainingProcess
from flows.orchestration.progress import PrefectProgress
from tagmask.disk import UNWRITABLE
from tagmask.errors import TagmaskError
from tagmask.memory import keep_freed_memory
from training.datasets import load
from training.datasets.held_out import hold_out
from training.datasets.photos import Photo, TaggedPhotos
from training.run.description import RunReference, read_description
from training.run.executor import Figures
from training.run.layout import Layout
from training.run.ledger import Ledger
from training.stages.base import PhotoStage, Stage
from training.stages.decision import Decision
from training.stages.network import NetworkStage

GPU = "tagmask-gpu"
"""Name of Prefect's concurrency limit for tasks on the GPU; one slot unless the limit is changed in Prefect."""


class _Brief(logging.Filter):
    """Drops Prefect's lines of shards that succeeded, as stages report progress, and tracebacks of errors that the user
    has to correct, as the message says how.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        fault = record.exc_info[1] if record.exc_info else None
        if isinstance(fault, TagmaskError | BrokenProcessPool) or getattr(fault, "errno", None) in UNWRITABLE:
            record.exc_info = None
        return not (record.msg.startswith("Finished in state") and "shard" in str(getattr(record, "task_run_name", "")))


for _name in ("prefect.flow_runs", "prefect.task_runs"):
    logging.getLogger(_name).addFilter(_Brief())


def stage_folder(stage: Stage, key: str) -> str:
    """Folder below WORKSPACE/stages for the results of `stage` under `key`."""
    return f"{stage.title.replace(': ', '-').replace(' ', '-')}-{key[:16]}"


def _result(context: TaskRunContext, parameters: dict[str, Any]) -> str:
    part = parameters["shard"].digest[:16] if "shard" in parameters else "all"
    return f"{stage_folder(parameters['stage'], parameters['key'])}/done/{part}.json"


def _may_retry(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Whether to try again: not after an error that the user has to correct first."""
    return not isinstance(state.result(raise_on_failure=False), TagmaskError)


@task(
    task_run_name="{stage.title}, shard {shard.number}",
    cache_key_fn=_result,
    persist_result=True,
    result_serializer="json",
    retry_condition_fn=_may_retry,
)
def photos_task(run: Path, stage: PhotoStage, key: str, shard: Shard) -> Figures:
    """A stage for the photos of one shard, on the CPU: {"photos": n, "seconds": s}."""
    begun = time.perf_counter()
    work = _photo_work(run, stage, key)
    for photo in shard.photos:
        work(photo)
    return {"photos": len(shard.photos), "seconds": time.perf_counter() - begun}


@task(task_run_name="{stage.title}", cache_key_fn=_result, persist_result=True, result_serializer="json")
def network_task(
    process: TrainingProcess, reference: RunReference, stage: NetworkStage, key: str, photos: int, device: str
) -> Figures:
    """Train a network in the process that has torch: "photos", "seconds", "losses" and others.

    `photos` is how many it is shown, each as often as there are epochs.
    """
    with gpu_slot(device), PrefectProgress().stage(stage.title, photos, "photo pass") as advance:
        figures: Figures = process.run("train_network", reference, stage, advance=advance)
        return figures


@task(task_run_name="{stage.title}", cache_key_fn=_result, persist_result=True, result_serializer="json")
def gpu_task(process: TrainingProcess, reference: RunReference, stage: PhotoStage, key: str, photos: int) -> Figures:
    """A photo stage for all `photos` in the process that has torch: {"photos": n, "seconds": s}."""
    begun = time.perf_counter()
    with gpu_slot("cuda"), PrefectProgress().stage(stage.title, photos) as advance:
        process.run("each_photo", reference, stage, advance=advance)
    return {"photos": photos, "seconds": time.perf_counter() - begun}


@task(task_run_name="{stage.title}", cache_key_fn=_result, persist_result=True, result_serializer="json")
def decision_task(run: Path, photos: Path, stage: Decision, key: str) -> Figures:
    """A round's quality without pixel labels, and whether the round is kept; see `Decision.decide`."""
    begun = time.perf_counter()
    data = tagged_photos(run, photos)
    previous = Ledger(Layout(run).ledger).find(stage.round - 1, stage.name)
    figures = stage.decide(data, run, previous)
    return {"photos": len(data.photos), "seconds": time.perf_counter() - begun, **figures}


@contextmanager
def gpu_slot(device: str) -> Iterator[None]:
    """Hold one slot of the concurrency limit GPU while the context is open; on a CPU do nothing.

    The limit is created if it does not exist. The slot of a process that dies is free again when its lease ends.
    """
    if device != "cuda":
        yield
        return
    with get_client(sync_client=True) as client, suppress(ObjectAlreadyExists):
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=GPU, limit=1))
    # A machine that was suspended loses its lease; its training continues.
    with concurrency(GPU, occupy=1, strict=True, lease_duration=60, raise_on_lease_renewal_failure=False):
        yield


@lru_cache(maxsize=1)
def tagged_photos(run: Path, photos: Path) -> TaggedPhotos:
    """The photos of the list `photos` as the run in folder `run` learns from them, without held-out corrections."""
    description = read_description(Layout(run))
    return hold_out(load(photos, classes=description.classes), description.held_out)[0]


@lru_cache(maxsize=1)
def _photo_work(run: Path, stage: PhotoStage, key: str) -> Callable[[Photo], None]:
    """What `stage` does to a photo, once per process, as it may load a network; `key` tells its versions apart."""
    cv2.setNumThreads(1)  # as every core has a process
    if stage.needs_torch:
        keep_freed_memory()
        import torch

        torch.set_num_threads(1)
    return stage.prepare(run, read_description(Layout(run)).classes)
