"""One training loop for every network: tag classifier, RegionNet and PixelNet.

All random numbers are drawn from (seed, epoch, position), so a training that is killed and resumed passes through the
same states as one that is not. A checkpoint is written after every epoch and removed once the weights are written.
"""

import math
import re
import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset, default_collate

from tagmask import files
from tagmask.cores import cores
from tagmask.disk import SHARED_MEMORY, writable
from tagmask.errors import ConfigError, RunError, TagmaskError
from tagmask.memory import return_freed_memory
from tagmask.progress import Advance, silent
from training.fitting import devices
from training.fitting.sampling import draw_epoch
from training.fitting.settings import FitConfig, FitResult

_SHARED = re.compile("shared memory|file </torch_")
"""What torch's errors about shared memory contain."""

_KILLED = re.compile(r"DataLoader worker \(pid.*\) (is killed|exited unexpectedly)")
"""What torch's errors about a process that was killed contain."""

LEAST_OPEN_FILES = 64
"""Twice the limit with which a training of one loader process was tried; with 24, torch's loader waits forever."""

Draw = tuple[int, int]
"""(epoch, index): the key of an item of a training data set, so that augmentation depends on nothing else."""


def fit(
    network: nn.Module,
    photos: Dataset[Any],
    loss: Callable[[nn.Module, Any], Tensor],
    config: FitConfig,
    weights: Path,
    *,
    shares: np.ndarray,
    device: torch.device,
    seed: int,
    loader_workers: int | None = None,
    collate: Callable[[list[Any]], Any] | None = None,
    finish: Callable[[], object] = lambda: None,
    advance: Advance = silent,
) -> FitResult | None:
    """Train `network` on `photos` (indexed by `Draw`) and write its state dict to `weights`.

    `shares`, (N,) float64, is how often an epoch shows each photo; see `training.fitting.sampling`.
    `loss(network, batch)` returns a scalar; the batch is on `device`. `loader_workers` processes read photos: one by
    default on a CPU, whose cores the network takes, and one per core beside GPUs, which share them. `finish` makes the
    last changes to the network before it is written, in one process. Resumes from the checkpoint beside `weights`, if
    any; returns None, with the weights loaded, if they have been written before. Raises the TagmaskErrors of `photos`,
    and RunError where shared memory is too small for the batches, when a loader process is killed, and when the
    training diverges.
    """
    network.to(device).to(memory_format=torch.channels_last)
    if weights.is_file():
        network.load_state_dict(torch.load(weights, map_location=device, weights_only=True))
        return None
    training = _Training(network, config, device, weights.with_suffix(".checkpoint"))
    left = range(training.state["epoch"], config.epochs)
    advance(left.start * round(shares.sum()))
    share = max(1, config.batch // devices.world())
    epochs = [_batches(draw_epoch(shares, epoch, config.epochs, seed), epoch, seed, share) for epoch in left]
    if loader_workers is None:
        loader_workers = 1 if device.type == "cpu" else max(1, cores() // devices.world())
    return_freed_memory()  # a forked worker would keep it too
    with writable(SHARED_MEMORY):
        loaded = iter(
            DataLoader(
                _Batches(photos, collate or default_collate),
                sampler=list(chain.from_iterable(epochs)),
                batch_size=None,
                num_workers=loader_workers,
                collate_fn=_unchanged,
                pin_memory=device.type == "cuda",
                prefetch_factor=4 if loader_workers else None,
                multiprocessing_context="fork" if loader_workers else None,  # not the default in a spawned process
            )
        )
    for epoch, batches in zip(left, epochs, strict=True):
        torch.manual_seed(seed * 100_003 + epoch)
        training.epoch(loaded, batches, loss, advance)
        _check_finite(network, weights)
        if devices.rank() == 0 and epoch + 1 < config.epochs:
            training.save()
    if devices.rank() == 0:
        finish()
        _save(weights, network.state_dict())
        training.checkpoint.unlink(missing_ok=True)
    devices.wait_for_all()
    seconds, waiting, losses = (training.state[name] for name in ("seconds", "waiting", "losses"))
    return FitResult(seconds, waiting / max(seconds, 1e-9), tuple(losses))


def check_open_files() -> None:
    """Raise ConfigError if this process may open fewer files than a training needs."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit < LEAST_OPEN_FILES:
        raise ConfigError(
            f"{limit} files at most may be open, {LEAST_OPEN_FILES} are needed; raise the limit by ulimit -n 1024"
        )


def _check_finite(network: nn.Module, weights: Path) -> None:
    if not all(values.isfinite().all() for values in network.parameters()):
        raise RunError(
            f"{weights.parent}: the training diverged, as its weights are no longer numbers; train into another folder "
            "with a lower learning_rate"
        )


def _save(path: Path, state: Mapping[str, Any]) -> None:
    """Write `state` at once: `torch.save` into a file hides that the disk is full."""
    buffer = BytesIO()
    torch.save(state, buffer)
    files.write_bytes(path, buffer.getvalue())


class _Training:
    """A network in training and its progress, read from its checkpoint, if any."""

    def __init__(self, network: nn.Module, config: FitConfig, device: torch.device, checkpoint: Path) -> None:
        self.network, self.config, self.device, self.checkpoint = network, config, device, checkpoint
        on_gpu = device.type == "cuda"
        self.optimizer = torch.optim.AdamW(_groups(network, config), weight_decay=config.weight_decay, fused=on_gpu)
        self.half = devices.autocast_dtype(device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.half == torch.float16)
        self.state: dict[str, Any] = {"epoch": 0, "seconds": 0.0, "waiting": 0.0, "losses": []}
        if checkpoint.is_file():
            # To the CPU: each part takes its own to the device, where the optimizer's counters of steps must not be.
            saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
            for name in ("network", "optimizer", "scaler"):
                if saved[name]:  # the scaler of a CPU has no state
                    getattr(self, name).load_state_dict(saved[name])
            self.state = saved["state"]
        self.parallel: nn.Module = DistributedDataParallel(network) if devices.world() > 1 else network

    def save(self) -> None:
        """Write the checkpoint."""
        parts = {name: getattr(self, name).state_dict() for name in ("network", "optimizer", "scaler")}
        _save(self.checkpoint, {**parts, "state": self.state})

    def epoch(
        self,
        loaded: Iterator[Any],
        batches: Sequence[Sequence[Draw]],
        loss: Callable[[nn.Module, Any], Tensor],
        advance: Advance,
    ) -> None:
        """Train on the next batches of `loaded`, which are those of `batches`."""
        self.parallel.train()
        on_gpu = self.device.type == "cuda"
        total = torch.zeros((), dtype=torch.float64, device=self.device)  # a GPU does not wait for it to be read
        begun, waiting, ready = time.perf_counter(), 0.0, time.perf_counter()
        for step, draws in enumerate(batches):
            batch = tuple(part.to(self.device, non_blocking=True) for part in _next_batch(loaded))
            waiting += time.perf_counter() - ready
            _set_rate(self.optimizer, self.config, (self.state["epoch"] + step / len(batches)) / self.config.epochs)
            self.optimizer.zero_grad(set_to_none=True)
            # Crops have one size, so that cuDNN's search for the fastest convolutions pays.
            with torch.backends.cudnn.flags(enabled=True, benchmark=on_gpu):
                with torch.autocast(self.device.type, self.half, enabled=on_gpu):
                    value = loss(self.parallel, batch)
                self.scaler.scale(value).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()
            total += value.detach()
            advance(len(draws) * devices.world())
            ready = time.perf_counter()
        mean = total.item() / len(batches)  # waits for the GPU
        self.state["epoch"] += 1
        self.state["seconds"] += time.perf_counter() - begun
        self.state["waiting"] += waiting
        self.state["losses"] = [*self.state["losses"], mean]


def _next_batch(loaded: Iterator[Any]) -> Any:
    """The next of the batches, which the processes of torch's loader pass through shared memory."""
    try:
        batch = next(loaded)
    except RuntimeError as fault:
        if _SHARED.search(str(fault)):
            raise RunError(
                f"{SHARED_MEMORY} is too small for the batches of photos; give it 1 GB, in a container by "
                "--shm-size=1g, and start again to resume"
            ) from fault
        if _KILLED.search(str(fault)):
            raise RunError(
                "the process that reads photos was killed, most likely for lack of memory; free memory, and start "
                "again to resume"
            ) from fault
        raise
    if isinstance(batch, TagmaskError):
        raise batch
    return batch


class _Batches(Dataset[Any]):
    """Batches of photos, or the error of one; torch would add its trace to the message of an error that is raised."""

    def __init__(self, photos: Dataset[Any], collate: Callable[[list[Any]], Any]) -> None:
        self.photos, self.collate = photos, collate

    def __getitem__(self, draws: Sequence[Draw]) -> Any:
        try:
            return self.collate([self.photos[draw] for draw in draws])
        except TagmaskError as fault:
            return fault


def _unchanged(batch: Any) -> Any:
    return batch


def _batches(indices: np.ndarray, epoch: int, seed: int, size: int) -> list[list[Draw]]:
    """This process's part of one epoch, shuffled; all parts have one length, as all processes step together."""
    order = torch.randperm(len(indices), generator=torch.Generator().manual_seed(seed * 100_003 + epoch)).numpy()
    steps = math.ceil(len(indices) / devices.world())
    places = np.arange(devices.rank(), steps * devices.world(), devices.world())
    draws = [(epoch, index) for index in indices[order[places % len(indices)]].tolist()]
    return [draws[start : start + size] for start in range(0, steps, size)]


def _groups(network: nn.Module, config: FitConfig) -> list[dict[str, Any]]:
    """Parameter groups: pretrained layers, if the network has a `backbone`, and new ones."""
    backbone = getattr(network, "backbone", None)
    pretrained = {id(parameter) for parameter in backbone.parameters()} if backbone is not None else set()
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if id(p) in pretrained], "factor": config.backbone_factor},
        {"params": [p for p in trained if id(p) not in pretrained], "factor": 1.0},
    ]
    return [group for group in groups if group["params"]]


def _set_rate(optimizer: torch.optim.Optimizer, config: FitConfig, progress: float) -> None:
    """Half cosine from the full rate at progress 0 to nothing at progress 1, after a warm-up of one fiftieth."""
    cosine = 0.5 * (1 + torch.cos(torch.tensor(progress * torch.pi)).item())
    warm = min(1.0, progress * 50 + 0.02)
    for group in optimizer.param_groups:
        group["lr"] = config.learning_rate * group["factor"] * cosine * warm
