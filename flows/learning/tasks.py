"""The steps of a training as Prefect tasks. What they make lies in the workspace under the key of all that went in.

A task's result, a few figures, lies in the folder of what the task made (`stages/<step>-<key>/done/`) and is written
last: a task whose result is there does not run again, whichever flow asks for it.

Nothing here imports torch by itself, as processes that only cut superpixels would load it too.
"""

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
from prefect import Task, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, TaskRun
from prefect.concurrency.sync import concurrency
from prefect.context import TaskRunContext

from flows.collection.lists import Shard
from flows.disk import UNWRITABLE
from flows.learning.training_process import TrainingProcess
from flows.orchestration.progress import PrefectProgress
from tagmask.errors import TagmaskError
from training.datasets import load
from training.datasets.photos import Photo, TaggedPhotos
from training.fitting.process import keep_freed_memory
from training.run.decision import decide
from training.run.description import Apart, read_description
from training.run.layout import Layout
from training.run.ledger import Ledger
from training.run.plan import TORCH, Step, steps
from training.stages.work import photo_work

GPU = "tagmask-gpu"
"""Name of Prefect's concurrency limit for what needs a GPU; one slot unless somebody sets another number."""

Figures = dict[str, Any]


class _Brief(logging.Filter):
    """Leaves out what Prefect says of each shard that went well, as stages tell how far they are, and the tracebacks of
    what the user has to put right, which the message names.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        fault = record.exc_info[1] if record.exc_info else None
        if isinstance(fault, TagmaskError | BrokenProcessPool) or getattr(fault, "errno", None) in UNWRITABLE:
            record.exc_info = None
        return not (record.msg.startswith("Finished in state") and "shard" in str(getattr(record, "task_run_name", "")))


for _name in ("prefect.flow_runs", "prefect.task_runs"):
    logging.getLogger(_name).addFilter(_Brief())


def stage_folder(step: Step, key: str) -> str:
    """Folder below WORKSPACE/stages of what `step` makes under `key`."""
    return f"{step.title.replace(': ', '-').replace(' ', '-')}-{key[:16]}"


def _result(context: TaskRunContext, parameters: dict[str, Any]) -> str:
    part = parameters["shard"].digest[:16] if "shard" in parameters else "all"
    return f"{stage_folder(parameters['step'], parameters['key'])}/done/{part}.json"


def _may_pass(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Whether to try again: not after what the user has to put right first."""
    return not isinstance(state.result(raise_on_failure=False), TagmaskError)


@task(
    task_run_name="{step.title}, shard {shard.number}",
    cache_key_fn=_result,
    persist_result=True,
    result_serializer="json",
    retry_condition_fn=_may_pass,
)
def photos_task(run: Path, step: Step, key: str, shard: Shard) -> Figures:
    """One step of the run in folder `run` for the photos of one shard, on the CPU: {"photos": n, "seconds": s}."""
    begun = time.perf_counter()
    work = _photo_work(run, step.name, key)
    for photo in shard.photos:
        work(photo)
    return {"photos": len(shard.photos), "seconds": time.perf_counter() - begun}


@task(task_run_name="{step.title}", cache_key_fn=_result, persist_result=True, result_serializer="json")
def torch_task(process: TrainingProcess, apart: Apart, step: Step, key: str, photos: int, device: str) -> Figures:
    """A step of all photos together in the process that has torch: a training, or on a GPU one of single photos.

    `photos` are those that it will see. Gives "photos" and "seconds", and for a training its losses.
    """
    begun = time.perf_counter()
    with gpu_slot(device), PrefectProgress().stage(step.title, photos) as advance:
        if step.kind == "network":
            figures: Figures = process.run("train_network", apart, step.name, advance=advance)
            return figures
        process.run("each_photo", apart, step.name, advance=advance)
    return {"photos": photos, "seconds": time.perf_counter() - begun}


@task(task_run_name="{step.title}", cache_key_fn=_result, persist_result=True, result_serializer="json")
def decision_task(run: Path, photos: Path, step: Step, key: str) -> Figures:
    """A round's quality without pixel labels, and whether the round is kept; see `training.run.decision.decide`."""
    begun = time.perf_counter()
    layout, data = Layout(run), tagged_photos(run, photos)
    told = decide(data, layout, Ledger(layout.ledger), read_description(layout).settings.keep, step.round)
    return {"photos": len(data.photos), "seconds": time.perf_counter() - begun, **told}


@contextmanager
def gpu_slot(device: str) -> Iterator[None]:
    """Hold one slot of the concurrency limit GPU while the context is open; a CPU needs none.

    The limit is made when it is not there. The slot of a process that dies is free again when its lease ends.
    """
    if device != "cuda":
        yield
        return
    with get_client(sync_client=True) as client:
        if not any(limit.name == GPU for limit in client.read_global_concurrency_limits(limit=200)):
            client.upsert_global_concurrency_limit_by_name(GPU, 1)
    # A machine that slept loses its lease; its training is not ended for that.
    with concurrency(GPU, occupy=1, strict=True, lease_duration=60, raise_on_lease_renewal_failure=False):
        yield


@lru_cache(maxsize=1)
def tagged_photos(run: Path, photos: Path) -> TaggedPhotos:
    """The list of photos that the run in folder `run` learns from."""
    return load(photos, classes=read_description(Layout(run)).classes)


@lru_cache(maxsize=1)
def _photo_work(run: Path, name: tuple[int, str], key: str) -> Callable[[Photo], None]:
    """Once a step in a process, as it may load a network; `key` tells apart steps of one name."""
    cv2.setNumThreads(1)  # as every core has a process
    layout = Layout(run)
    asked = read_description(layout)
    step = next(step for step in steps(asked.settings) if step.name == name)
    if step.stage in TORCH:
        keep_freed_memory()
        import torch

        torch.set_num_threads(1)
    return photo_work(step, layout, asked.classes, asked.settings)
