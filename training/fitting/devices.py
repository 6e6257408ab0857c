"""The device, and the processes that train together."""

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
from torch import distributed

from tagmask.errors import ConfigError
from tagmask.memory import keep_freed_memory
from tagmask.nvidia import driver_too_old

T = TypeVar("T")

STEP_LIMIT = timedelta(minutes=10)
"""How long a process waits for the others within a training; longer, and one of them has failed."""

WORK_LIMIT = timedelta(days=2)
"""How long the others wait for what the first does alone, such as the per-photo stages of a large data set."""

_patient: distributed.ProcessGroup | None = None
"""The group of all processes for waits of up to WORK_LIMIT."""


def choose(name: str) -> torch.device:
    """The device called "auto", "cpu" or "cuda"; under `torchrun` each process takes its own GPU.

    Raises ConfigError for another name, for "cuda" without a GPU, for more processes than GPUs, and for a GPU that this
    build of torch has no code for.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device: '{name}' is not one of auto, cpu, cuda")
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ConfigError(f"device: cuda, but {_why_no_gpu()}; use --device auto or cpu")
    number, gpus = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if number >= gpus:
        raise ConfigError(f"torchrun: more processes than the {gpus} GPUs; start it with --nproc-per-node {gpus}")
    device = torch.device("cuda", number)
    torch.cuda.set_device(device)
    _check_capability(device)
    return device


def _why_no_gpu() -> str:
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as fault:  # the latter of builds without CUDA
        if torch.version.cuda and "driver on your system is too old" in str(fault):
            return driver_too_old(torch.version.cuda)
    return "torch sees no GPU"


def _check_capability(device: torch.device) -> None:
    """Raises ConfigError for a GPU older than all that torch was built for, as its first step would fail."""
    names = (re.fullmatch(r"sm_(\d+)", name) for name in torch.cuda.get_arch_list())
    built_for = [int(name[1]) for name in names if name]
    major, minor = torch.cuda.get_device_capability(device)
    if built_for and 10 * major + minor < min(built_for):
        needed = f"{min(built_for) // 10}.{min(built_for) % 10}"
        raise ConfigError(
            f"device: {torch.cuda.get_device_name(device)} has compute capability {major}.{minor}, and this build of "
            f"PyTorch needs {needed} or newer; use --device cpu, or install another build"
        )


def title(device: torch.device) -> str:
    """The device for people: "cpu", "cuda (NVIDIA H200)"."""
    return f"{device.type} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device.type


def autocast_dtype(device: torch.device) -> torch.dtype:
    """The number format of mixed precision on `device`: bfloat16, in which no gradient vanishes, if a GPU has it."""
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float16
    return torch.bfloat16


def save_time(device: torch.device) -> None:
    """Keep freed memory for a training on the CPU, whose tensors it holds. Beside a GPU it would only hoard batches."""
    if device.type == "cpu":
        keep_freed_memory()


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the processes that `torchrun` started, if it did and this one has not joined yet."""
    global _patient
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or distributed.is_initialized():
        yield
        return
    threading.Thread(target=_end_with_torchrun, args=(os.getppid(),), daemon=True).start()
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=STEP_LIMIT)
    try:
        _patient = distributed.new_group(backend="gloo", timeout=WORK_LIMIT)  # type: ignore[assignment]
        yield
    finally:
        distributed.destroy_process_group()
        _patient = None


def _end_with_torchrun(torchrun: int) -> None:
    """Otherwise this process would train on after its parent, which ends all when one fails, was killed."""
    while os.getppid() == torchrun:
        time.sleep(1)
    os._exit(1)


def rank() -> int:
    """This process's number among those that train together; 0 when alone."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def wait_for_all() -> None:
    """Return once every process has called this."""
    if distributed.is_initialized():
        distributed.barrier(group=_patient)


def from_first(work: Callable[[], T]) -> T:
    """The result of `work()`, which the first process alone computes, for all of them; it must be picklable."""
    if not distributed.is_initialized():
        return work()
    results = [work() if rank() == 0 else None]
    distributed.broadcast_object_list(results, group=_patient, device=torch.device("cpu"))
    result: T = results[0]  # type: ignore[assignment]
    return result
