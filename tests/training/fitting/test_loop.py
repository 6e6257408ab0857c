import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from tagmask.errors import DataError, RunError
from training.fitting.loop import Draw, fit
from training.fitting.sampling import draw_epoch
from training.fitting.settings import FitConfig, FitResult

ROOT = Path(__file__).parents[3]
CPU = torch.device("cpu")
CONFIG = FitConfig(epochs=3, batch=4, learning_rate=1e-2)
ALL = np.ones(10)


class Points(Dataset[tuple[Tensor, Tensor]]):
    """Points on a line, drawn anew for each epoch and index."""

    def __init__(self, length: int = 10) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, draw: Draw) -> tuple[Tensor, Tensor]:
        x = torch.rand(2, generator=torch.Generator().manual_seed(draw[0] * 1000 + draw[1]))
        return x, x.sum(dim=0, keepdim=True)


def network() -> nn.Sequential:
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1))


def loss(trained: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return functional.mse_loss(trained(batch[0]), batch[1])


def train(
    trained: nn.Module,
    weights: Path,
    config: FitConfig = CONFIG,
    workers: int = 0,
    advance: Callable[[int], None] = lambda photos: None,
    shares: np.ndarray = ALL,
) -> FitResult | None:
    shared: dict[str, Any] = {"device": CPU, "seed": 3, "loader_workers": workers, "advance": advance}
    return fit(trained, Points(), loss, config, weights, shares=shares, **shared)


def test_a_training_that_diverges_ends_with_the_remedy(tmp_path: Path) -> None:
    def of_negative_numbers(trained: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return (-trained(batch[0]).square()).sqrt().mean()

    with pytest.raises(RunError, match=r"pixelnet: the training diverged.* lower learning_rate"):
        fit(
            network(), Points(), of_negative_numbers, CONFIG, tmp_path / "pixelnet" / "weights.pt",
            shares=ALL, device=CPU, seed=3, loader_workers=0,
        )  # fmt: skip
    assert not list(tmp_path.iterdir())


def assert_equal(one: Path, two: Path) -> None:
    states = [torch.load(path, weights_only=True) for path in (one, two)]
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name


def test_what_is_left_to_do_is_done_once_before_the_weights_are_written(tmp_path: Path):
    weights, existed = tmp_path / "w.pt", []
    network = nn.Linear(2, 1)

    def finish() -> None:
        existed.append(weights.exists())
        with torch.no_grad():
            network.bias.fill_(7)

    shared: dict[str, Any] = {"shares": ALL, "device": CPU, "seed": 3, "loader_workers": 0, "finish": finish}
    for _ in range(2):
        fit(network, Points(), loss, CONFIG, weights, **shared)
    assert existed == [False]
    assert torch.load(weights, weights_only=True)["bias"] == 7


class Killed(BaseException):
    """What stops a run from outside."""


def killing(after: int) -> Callable[[int], None]:
    """An `advance` that stops the run once `after` points are done."""
    done = 0

    def advance(points: int) -> None:
        nonlocal done
        done += points
        if done >= after:
            raise Killed

    return advance


def test_it_learns_and_tells_what_it_cost(tmp_path: Path):
    done: list[int] = []
    config = FitConfig(epochs=30, batch=4, learning_rate=3e-2)
    torch.manual_seed(7)
    trained = nn.Sequential(nn.Linear(2, 1))
    fitted = train(trained, tmp_path / "w.pt", config, advance=done.append)
    assert fitted is not None
    assert len(fitted.losses) == 30
    assert fitted.losses[-1] < fitted.losses[0] / 10
    assert fitted.seconds > 0
    assert 0 <= fitted.waiting <= 1
    assert sum(done) == 30 * 10
    written = torch.load(tmp_path / "w.pt", weights_only=True)
    assert all(torch.equal(tensor, written[name]) for name, tensor in trained.state_dict().items())
    assert [path.name for path in tmp_path.iterdir()] == ["w.pt"]


@pytest.mark.parametrize(
    ("shares", "after"),
    [*((ALL, after) for after in (1, 10, 13, 20, 29, 30)), *((0.6 * ALL, after) for after in (6, 7, 13))],
)
def test_killed_anywhere_and_resumed_gives_the_same_weights(tmp_path: Path, shares: np.ndarray, after: int):
    undisturbed = train(network(), tmp_path / "undisturbed.pt", shares=shares)
    with pytest.raises(Killed):
        train(network(), tmp_path / "stopped.pt", advance=killing(after), shares=shares)
    assert not (tmp_path / "stopped.pt").exists()
    torch.manual_seed(99)  # another process, in another state
    done: list[int] = []
    resumed = train(network(), tmp_path / "stopped.pt", advance=done.append, shares=shares)
    assert_equal(tmp_path / "undisturbed.pt", tmp_path / "stopped.pt")
    assert undisturbed is not None
    assert resumed is not None
    assert resumed.losses == undisturbed.losses
    assert sum(done) == 3 * round(shares.sum())
    assert not list(tmp_path.glob("*.checkpoint"))


def test_a_checkpoint_of_a_cpu_is_resumed_on_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Without one: its scaler is enabled as it is there, and the optimizer's counters stay where they must be."""
    with pytest.raises(Killed):
        train(network(), tmp_path / "w.pt", advance=killing(20))
    read: list[Any] = []
    load, scaler, devices = torch.load, torch.amp.GradScaler, []

    def note(path: Path, **options: Any) -> Any:
        devices.append(options["map_location"])
        return load(path, **options)

    def enabled(device: str, enabled: bool) -> torch.amp.GradScaler:
        read.append(scaler(device))
        return read[0]

    monkeypatch.setattr(torch, "load", note)
    monkeypatch.setattr(torch.amp, "GradScaler", enabled)
    done: list[int] = []
    assert train(network(), tmp_path / "w.pt", advance=done.append) is not None
    assert done[0] == 10
    assert read[0].is_enabled()
    assert devices == ["cpu"]


def test_an_epoch_shows_what_is_drawn_in_another_order_each_time(tmp_path: Path):
    draws: list[Draw] = []

    class Noted(Points):
        def __getitem__(self, draw: Draw) -> tuple[Tensor, Tensor]:
            draws.append(draw)
            return super().__getitem__(draw)

    shares = np.array([1, 1, 1, 1, 1, 0.2, 0.2, 0.2, 0.2, 0.2])
    fit(network(), Noted(), loss, CONFIG, tmp_path / "w.pt", shares=shares, device=CPU, seed=3, loader_workers=0)
    orders = [[index for number, index in draws if number == epoch] for epoch in range(3)]
    assert [sorted(order) for order in orders] == [draw_epoch(shares, epoch, 3, seed=3).tolist() for epoch in range(3)]
    always = [[index for index in order if index < 5] for order in orders]
    assert sorted(always[0]) == sorted(always[1]) == list(range(5))
    assert always[0] != always[1] != always[2]


def test_a_finished_training_is_loaded_and_not_repeated(tmp_path: Path):
    trained = network()
    train(trained, tmp_path / "w.pt")
    fresh = network()
    assert train(fresh, tmp_path / "w.pt", advance=killing(1)) is None
    for name, tensor in trained.state_dict().items():
        assert torch.equal(tensor, fresh.state_dict()[name])


def test_loader_processes_change_nothing(tmp_path: Path):
    for workers in (0, 2):
        train(network(), tmp_path / f"{workers}.pt", FitConfig(epochs=1, batch=4, learning_rate=1e-2), workers)
    assert_equal(tmp_path / "0.pt", tmp_path / "2.pt")


def test_pretrained_layers_learn_slower(tmp_path: Path):
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.head = nn.Linear(2, 2), nn.Linear(2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.backbone(x))

    trained = Two()
    before = {name: tensor.clone() for name, tensor in trained.state_dict().items()}
    config = FitConfig(epochs=2, batch=4, learning_rate=1e-2, backbone_factor=0, weight_decay=0)
    train(trained, tmp_path / "w.pt", config)
    moved = {name for name, tensor in trained.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == {"head.weight", "head.bias"}


TOGETHER = """
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tests.training.fitting.test_loop import CONFIG, CPU, Points, loss
from training.fitting import devices
from training.fitting.loop import fit

torch.set_num_threads(1)
folder = Path(sys.argv[1])
with devices.process_group(CPU):
    torch.manual_seed(devices.rank())
    network = nn.Linear(2, 1)
    done = []
    # 9 points for two processes: their parts must be of one length, or one waits forever for the other.
    shared = {"shares": np.ones(9), "device": CPU, "seed": 3, "loader_workers": 0, "advance": done.append}
    fit(network, Points(9), loss, CONFIG, folder / "w.pt", **shared)
    torch.save(network.state_dict(), folder / f"rank{devices.rank()}.pt")
    (folder / f"done{devices.rank()}").write_text(f"{devices.world()} {sum(done)}")
    with devices.process_group(CPU):  # it has joined
        assert devices.from_first(lambda: f"of {devices.rank()}") == "of 0"
    (folder / f"waits{devices.rank()}").touch()
    if devices.rank() == 1:
        devices.wait_for_all()
    time.sleep(300)
"""


def test_two_processes_train_one_network_and_end_with_torchrun(tmp_path: Path):
    script = tmp_path / "together.py"
    script.write_text(TOGETHER)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen([*command, str(tmp_path)], cwd=ROOT, env=environment) as torchrun:
        try:
            while torchrun.poll() is None and len(list(tmp_path.glob("waits?"))) < 2:
                time.sleep(0.1)
            processes = psutil.Process(torchrun.pid).children(recursive=True)
            assert len(processes) >= 2
        finally:
            torchrun.kill()
    assert psutil.wait_procs(processes, timeout=30)[1] == []
    assert_equal(tmp_path / "rank0.pt", tmp_path / "rank1.pt")
    assert_equal(tmp_path / "rank0.pt", tmp_path / "w.pt")
    assert (tmp_path / "done0").read_text() == f"2 {3 * 10}"


def test_the_rate_rises_over_a_fiftieth_and_then_falls_as_a_half_cosine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    rates = []
    step = torch.optim.AdamW.step

    def record(optimizer: torch.optim.AdamW, *arguments: Any, **options: Any) -> Any:
        rates.append(optimizer.param_groups[0]["lr"])
        return step(optimizer, *arguments, **options)

    monkeypatch.setattr(torch.optim.AdamW, "step", record)
    train(network(), tmp_path / "weights.pt", FitConfig(epochs=100, batch=10, learning_rate=1))
    cosine = [0.5 * (1 + np.cos(np.pi * progress / 100)) for progress in range(100)]
    assert rates == pytest.approx([0.02, 0.52 * cosine[1], *cosine[2:]], abs=1e-6)


class Large(Points):
    """Of items that do not fit into the shared memory of the test."""

    def __getitem__(self, draw: Draw) -> tuple[Tensor, Tensor]:
        return torch.zeros(2**20), torch.zeros(1)


def test_shared_memory_that_is_too_small_is_named(tmp_path: Path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, hard))  # also of files in /dev/shm
    try:
        with pytest.raises(RunError, match=r"^shared memory \(/dev/shm\) is too small .* by --shm-size=1g"):
            fit(network(), Large(), loss, CONFIG, tmp_path / "w.pt", shares=ALL, device=CPU, seed=3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Odd(Points):
    """One of which is not as it should be."""

    def __init__(self, misfortune: Callable[[], None]) -> None:
        super().__init__()
        self.misfortune = misfortune

    def __getitem__(self, draw: Draw) -> tuple[Tensor, Tensor]:
        if draw[1] == 7:
            self.misfortune()
        return super().__getitem__(draw)


def replaced() -> None:
    raise DataError("7.jpg: is empty; replace or remove it")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_photo_that_can_no_longer_be_read_is_named_without_a_trace(tmp_path: Path, workers: int):
    shared: dict[str, Any] = {"shares": ALL, "device": CPU, "seed": 3, "loader_workers": workers}
    with pytest.raises(DataError, match=r"^7\.jpg: is empty; replace or remove it$"):
        fit(network(), Odd(replaced), loss, CONFIG, tmp_path / "w.pt", **shared)


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_loader_that_is_killed_is_told_with_the_remedy(tmp_path: Path):
    with pytest.raises(RunError, match=r"^the process that reads photos was killed, .*; free memory"):
        fit(network(), Odd(killed), loss, CONFIG, tmp_path / "w.pt", shares=ALL, device=CPU, seed=3, loader_workers=1)
