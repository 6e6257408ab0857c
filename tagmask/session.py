"""Sessions of ONNX Runtime on a CPU or a GPU."""

import ctypes
import logging
import os
import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tagmask.errors import BundleError, ConfigError
from tagmask.nvidia import driver_too_old

# ONNX Runtime sends telemetry by default, and reads the switch when it is first imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime

onnxruntime.disable_telemetry_events()

log = logging.getLogger("tagmask.session")

DEVICES = ("auto", "cpu", "cuda")

_PROCESSOR = Path("/proc/cpuinfo")

_CUDA = {
    "cudnn_conv_algo_search": "HEURISTIC",  # an exhaustive one is repeated for each size of photo
    "arena_extend_strategy": "kSameAsRequested",  # else each extension doubles the memory that is held
}

_CUDA_FAILURE = re.compile(r"CUDA failure \d+: (.+?) ;")

_SILENT = 4  # severity above which ONNX Runtime writes to standard error; faults are raised as exceptions


def open_session(
    model: Path | bytes,
    *,
    device: str = "auto",
    threads: int | None = None,
    gpu_memory: int | None = None,
    name: object = None,
) -> Any:
    """An `onnxruntime.InferenceSession` of a file or its bytes, on "cpu", "cuda", or with "auto" on CUDA if it works.

    `threads` compute each operator on a CPU, by default one per core. `gpu_memory` is the most, in bytes, that it takes
    of a GPU for weights and maps. `name` stands for the model in messages. Raises ConfigError for an unknown device,
    "cuda" where it does not work, or less than one thread, and BundleError for a model that ONNX Runtime cannot load.
    """
    if device not in DEVICES:
        raise ConfigError(f"device {device!r} is unknown; choose one of {', '.join(DEVICES)}")
    if threads is not None and threads < 1:
        raise ConfigError(f"threads is {threads}; set at least 1, or none for one per core")
    providers: list[Any] = ["CPUExecutionProvider"]
    if device == "cuda" and not _built_with_cuda():
        raise ConfigError(
            "device 'cuda': ONNX Runtime finds no usable GPU, as this build is for CPUs; choose 'auto' or 'cpu', "
            "or install onnxruntime-gpu in place of onnxruntime"
        )
    if device == "cuda" or (device == "auto" and has_cuda()):
        onnxruntime.set_default_logger_severity(_SILENT)
        onnxruntime.preload_dlls()
        limit = {} if gpu_memory is None else {"gpu_mem_limit": gpu_memory}
        providers.insert(0, ("CUDAExecutionProvider", _CUDA | limit))
    try:
        # Its own fallback, here and in each run, is to the CPU even for "cuda", and prints to standard output.
        session = onnxruntime.InferenceSession(
            model if isinstance(model, bytes) else str(model),
            _options(threads),
            providers=providers,
            enable_fallback=False,
        )
    except Exception as fault:  # ONNX Runtime has a dozen exceptions without a common base
        if failure := _CUDA_FAILURE.search(str(fault)):
            reason = driver_too_old(onnxruntime.cuda_version) if "driver version" in failure[1] else failure[1]
            if device == "cuda":
                raise ConfigError(f"device 'cuda': {reason}; choose 'auto' or 'cpu'") from fault
            log.warning("no GPU is used", extra={"reason": reason})
            return open_session(model, device="cpu", threads=threads, name=name)
        name = name or ("the exported model" if isinstance(model, bytes) else model)
        reason = " ".join(str(fault).split())
        raise BundleError(f"{name}: ONNX Runtime cannot load it ({reason}); export it again") from fault
    # The list of available providers names CUDA without a GPU; the session's own list is right.
    if device == "cuda" and "CUDAExecutionProvider" not in session.get_providers():
        raise ConfigError("device 'cuda': ONNX Runtime finds no usable GPU; choose 'auto' or 'cpu'")
    return session


def _options(threads: int | None) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _SILENT
    options.intra_op_num_threads = threads or 0
    # Threads that spin while they wait would take the cores from other photos in progress.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not _has_vnni():
        # On other x86 processors the sums of an int8 network would overflow; exact ones take longer.
        options.add_session_config_entry("session.x64quantprecision", "1")
    options.enable_mem_pattern = False  # a plan is kept for each input size, and photos have thousands of sizes
    return options


def run_session(
    session: Any,
    outputs: Sequence[str],
    inputs: Mapping[str, NDArray[np.float32]],
    seconds: float,
    *,
    shrink: bool = False,
) -> list[NDArray[Any]]:
    """The `outputs` of `session` for `inputs`, both by name; it then returns memory to the system if `shrink`.

    Raises TimeoutError after `seconds`, and what ONNX Runtime raises.
    """
    options = onnxruntime.RunOptions()
    options.log_severity_level = _SILENT
    if shrink:  # or it would keep what several photos at once took, for one at a time
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    end = threading.Timer(seconds, setattr, (options, "terminate", True))
    end.daemon = True
    end.start()
    try:
        ran: list[NDArray[Any]] = session.run(outputs, inputs, options)
    except Exception as fault:
        if options.terminate:
            raise TimeoutError from fault
        raise
    finally:
        end.cancel()
    return ran


def _has_vnni() -> bool:
    """Whether Linux names instructions of the processor whose int8 sums do not overflow."""
    try:
        return "vnni" in _PROCESSOR.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def has_cuda() -> bool:
    """Whether the device "auto" means CUDA."""
    if not _built_with_cuda():
        return False
    try:
        ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return False
    return True


def _built_with_cuda() -> bool:
    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()
