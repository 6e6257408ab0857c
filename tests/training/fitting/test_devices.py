import pytest
import torch

from tagmask.errors import ConfigError
from training.fitting import devices


def pretend(monkeypatch: pytest.MonkeyPatch, gpus: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_90a", "sm_120", "compute_120"])
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA Tesla T4")


def test_auto_is_a_gpu_if_there_is_one(monkeypatch: pytest.MonkeyPatch):
    pretend(monkeypatch, gpus=0)
    assert devices.choose("auto") == devices.choose("cpu") == torch.device("cpu")
    pretend(monkeypatch, gpus=1)
    assert devices.choose("auto") == torch.device("cuda", 0)
    assert devices.choose("cpu") == torch.device("cpu")


def test_every_process_takes_its_own_gpu_and_one_too_many_is_refused(monkeypatch: pytest.MonkeyPatch):
    pretend(monkeypatch, gpus=2)
    for number in (0, 1):
        monkeypatch.setenv("LOCAL_RANK", str(number))
        assert devices.choose("cuda") == torch.device("cuda", number)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ConfigError, match=r"more processes than the 2 GPUs.*--nproc-per-node 2"):
        devices.choose("cuda")
    assert devices.choose("cpu") == torch.device("cpu")


@pytest.mark.parametrize(("name", "message"), [("gpu", "'gpu' is not one of auto, cpu, cuda"), ("cuda", "sees no GPU")])
def test_a_device_that_is_none_or_absent(monkeypatch: pytest.MonkeyPatch, name: str, message: str):
    pretend(monkeypatch, gpus=0)
    with pytest.raises(ConfigError, match=message):
        devices.choose(name)


def test_a_driver_that_is_too_old_is_named(monkeypatch: pytest.MonkeyPatch):
    def init() -> None:
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 12020). Please update …")

    pretend(monkeypatch, gpus=0)
    monkeypatch.setattr(torch.cuda, "init", init)
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    with pytest.raises(ConfigError, match="the NVIDIA driver is too old: CUDA 13 needs 580 or newer"):
        devices.choose("cuda")


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_a_gpu_that_torch_has_no_code_for_is_named(monkeypatch: pytest.MonkeyPatch, name: str):
    pretend(monkeypatch, gpus=1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 0))
    with pytest.raises(ConfigError, match=r"T4 has compute capability 7\.0, .* needs 7\.5 or newer; use --device cpu"):
        devices.choose(name)


@pytest.mark.parametrize(("supported", "dtype"), [(True, torch.bfloat16), (False, torch.float16)])
def test_mixed_precision_is_the_format_that_a_gpu_computes_in(
    monkeypatch: pytest.MonkeyPatch, supported: bool, dtype: torch.dtype
):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported)
    assert devices.autocast_dtype(torch.device("cuda")) == dtype


def test_alone_there_is_nobody_to_wait_for():
    with devices.process_group(torch.device("cpu")):
        devices.wait_for_all()
        assert (devices.rank(), devices.world()) == (0, 1)
