"""The device, and the processes that train together."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import distributed

from tagmask.errors import ConfigError


def choose(name: str) -> torch.device:
    """The device called "auto", "cpu" or "cuda"; under `torchrun` each process takes its own GPU.

    Raises ConfigError for another name, for "cuda" without a GPU, and for more processes than GPUs.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device: '{name}' is not one of auto, cpu, cuda")
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ConfigError("device: cuda, but torch sees no GPU; use --device auto or cpu")
    number, gpus = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if number >= gpus:
        raise ConfigError(f"torchrun: more processes than the {gpus} GPUs; start it with --nproc-per-node {gpus}")
    device = torch.device("cuda", number)
    torch.cuda.set_device(device)
    return device


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the processes that `torchrun` started, if it did; a single process passes through."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    # Others wait while the first process runs the per-photo stages, which can take hours on a large data set.
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timedelta(days=2))
    try:
        yield
    finally:
        distributed.destroy_process_group()


def rank() -> int:
    """This process's number among those that train together; 0 when alone."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def wait_for_all() -> None:
    """Return once every process has called this."""
    if distributed.is_initialized():
        distributed.barrier()
