"""ONNX Runtime sessions: which device they run on, with how many threads, and what can go wrong with a file."""

import ctypes
import os
from pathlib import Path
from typing import Any

from tagmask.errors import BundleError, ConfigError

# ONNX Runtime reports to its maker by default, and reads the switch when it is first imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

onnxruntime.disable_telemetry_events()

_SILENT = 4
"""Severity above which ONNX Runtime writes to standard error; what goes wrong is raised."""


def open_session(model: Path | bytes, *, device: str = "auto", threads: int | None = None) -> Any:
    """An `onnxruntime.InferenceSession` of a file or its bytes, on "cpu", "cuda", or with "auto" on CUDA if it works.

    `threads` computes each operator on CPU; None takes as many as there are cores.
    Raises ConfigError for another device, or "cuda" where it does not work, and BundleError for a file that ONNX
    Runtime cannot load.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device: '{device}' is not one of auto, cpu, cuda")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _SILENT
    options.intra_op_num_threads = threads or 0
    providers = ["CPUExecutionProvider"]
    if device == "cuda" or (device == "auto" and _has_driver()):
        onnxruntime.set_default_logger_severity(_SILENT)
        onnxruntime.preload_dlls()
        providers.insert(0, "CUDAExecutionProvider")
    given = model if isinstance(model, bytes) else str(model)
    try:
        session = onnxruntime.InferenceSession(given, options, providers=providers)
    except Exception as fault:  # ONNX Runtime has a dozen exceptions without a common base
        name = "the exported model" if isinstance(model, bytes) else model
        raise BundleError(f"{name}: ONNX Runtime cannot load it ({fault}); export the model again") from fault
    # The list of available providers names CUDA without a GPU; the session's own list tells the truth.
    if device == "cuda" and "CUDAExecutionProvider" not in session.get_providers():
        raise ConfigError("device: cuda was asked for, but ONNX Runtime sees no usable GPU; use --device auto or cpu")
    return session


def _has_driver() -> bool:
    try:
        ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return False
    return True
