"""What becomes of a GPU that cannot be used, and how much of its memory is taken."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from tagmask import session
from tagmask.bundle import read_bundle
from tagmask.segmenter import Segmenter

_OLD_DRIVER = """
int cuInit(unsigned flags) { return 0; }
int cuDriverGetVersion(int *version) { *version = 12020; return 0; }
int cuTensorMapEncodeTiled(void) { return 0; }
"""

_OPEN = """
import logging, sys
from tagmask.errors import ConfigError
from tagmask.session import open_session
logging.basicConfig(format="%(message)s: %(reason)s")
try:
    print(open_session(sys.argv[1], device=sys.argv[2]).get_providers())
except ConfigError as fault:
    print(fault)
"""


@pytest.fixture
def with_old_driver(tmp_path: Path) -> dict[str, str]:
    """Variables of the environment with which the driver of CUDA is one for CUDA 12.2."""
    compiler = shutil.which("cc")
    if compiler is None or "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("needs a C compiler, and ONNX Runtime built with CUDA")
    source = tmp_path / "driver.c"
    source.write_text(_OLD_DRIVER)
    library = tmp_path / "libcuda.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", source, "-o", library], check=True)
    return os.environ | {"LD_LIBRARY_PATH": str(tmp_path)}


@pytest.mark.parametrize(
    ("device", "printed", "logged"),
    [
        ("cuda", "device 'cuda': the NVIDIA driver is too old: CUDA 13 needs 580 or newer; choose 'auto' or 'cpu'", ""),
        ("auto", "['CPUExecutionProvider']",
         "no GPU is used: the NVIDIA driver is too old: CUDA 13 needs 580 or newer"),
    ],
)  # fmt: skip
def test_a_driver_that_is_too_old_is_named(
    colour_bundle: Path, with_old_driver: dict[str, str], device: str, printed: str, logged: str
):
    command = [sys.executable, "-c", _OPEN, str(colour_bundle), device]
    done = subprocess.run(command, env=with_old_driver, capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr.strip()) == (printed, logged)


def test_memory_of_a_gpu_is_limited(colour_bundle: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[Any] = []
    opener = onnxruntime.InferenceSession

    def on_cpu(model: Any, options: Any, *, providers: list[Any], enable_fallback: bool) -> Any:
        asked.append(providers[0])
        return opener(model, options, providers=providers[1:])

    monkeypatch.setattr(session, "has_cuda", lambda: True)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    monkeypatch.setattr(onnxruntime, "InferenceSession", on_cpu)
    for limit in (None, 2_000_000_000):
        Segmenter(read_bundle(colour_bundle), gpu_memory=limit).close()
    (_, unlimited), (provider, limited) = asked
    assert provider == "CUDAExecutionProvider"
    assert "gpu_mem_limit" not in unlimited
    assert limited == unlimited | {"gpu_mem_limit": 2_000_000_000}
