"""ONNX Runtime: sessions on a device, and the network of a bundle."""

import ctypes
import os
from pathlib import Path
from typing import Any

import numpy as np

from tagmask.bundle import Bundle
from tagmask.errors import BundleError, ConfigError
from tagmask.segmentation import Pixels, Planes

# ONNX Runtime sends telemetry by default, and reads the switch when it is first imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime

onnxruntime.disable_telemetry_events()

DEVICES = ("auto", "cpu", "cuda")

_SILENT = 4  # severity above which ONNX Runtime writes to standard error; faults are raised as exceptions


def open_session(model: Path | bytes, *, device: str = "auto", threads: int | None = None, name: object = None) -> Any:
    """An `onnxruntime.InferenceSession` of a file or its bytes, on "cpu", "cuda", or with "auto" on CUDA if it works.

    `threads` compute each operator on a CPU, by default one per core. `name` stands for the model in
    messages. Raises ConfigError for an unknown device, "cuda" where it does not work, or less than one thread, and
    BundleError for a model that ONNX Runtime cannot load.
    """
    if device not in DEVICES:
        raise ConfigError(f"device {device!r} is unknown; choose one of {', '.join(DEVICES)}")
    if threads is not None and threads < 1:
        raise ConfigError(f"threads is {threads}; set at least 1, or none for one per core")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _SILENT
    options.intra_op_num_threads = threads or 0
    # Threads that spin while they wait would take the cores from other photos in progress.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_mem_pattern = False  # a plan is kept for each input size, and photos have thousands of sizes
    providers = ["CPUExecutionProvider"]
    built_with_cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if device == "cuda" and not built_with_cuda:
        raise ConfigError(
            "device 'cuda': ONNX Runtime finds no usable GPU, as this build is for CPUs; choose 'auto' or 'cpu', "
            "or install onnxruntime-gpu in place of onnxruntime"
        )
    if device == "cuda" or (device == "auto" and built_with_cuda and _has_driver()):
        onnxruntime.set_default_logger_severity(_SILENT)
        onnxruntime.preload_dlls()
        providers.insert(0, "CUDAExecutionProvider")
    try:
        session = onnxruntime.InferenceSession(
            model if isinstance(model, bytes) else str(model), options, providers=providers
        )
    except Exception as fault:  # ONNX Runtime has a dozen exceptions without a common base
        name = name or ("the exported model" if isinstance(model, bytes) else model)
        raise BundleError(f"{name}: ONNX Runtime cannot load it ({fault}); export it again") from fault
    # The list of available providers names CUDA without a GPU; the session's own list is right.
    if device == "cuda" and "CUDAExecutionProvider" not in session.get_providers():
        raise ConfigError("device 'cuda': ONNX Runtime finds no usable GPU; choose 'auto' or 'cpu'")
    return session


class Network:
    """The warmed-up network of a bundle. Any number of threads may call `probabilities` at once.

    Attributes: `provider`, the execution provider in use; `smallest`, least side of an input in pixels.
    """

    def __init__(self, bundle: Bundle, device: str = "auto", threads: int | None = None) -> None:
        """Open `bundle`; `device` and `threads` are those of `open_session`.

        Raises what `open_session` raises, and BundleError when the network cannot be run or gives another output than
        the metadata declares.
        """
        self._metadata = bundle.metadata
        self.smallest = bundle.metadata.smallest_size
        self._session = open_session(bundle.data, device=device, threads=threads, name=bundle.path)
        self.provider: str = self._session.get_providers()[0]
        self._warm_up(bundle)

    def probabilities(self, photo: Pixels) -> Planes:
        """Of `photo` (h, w, 3) uint8 RGB, no side below `smallest`: (labels, h, w) float32, summing to 1."""
        image = np.ascontiguousarray(photo.transpose(2, 0, 1)[None], dtype=np.float32)  # (1, 3, h, w)
        output = self._session.run([self._metadata.output.name], {self._metadata.input.name: image})[0]
        return np.asarray(output[0], dtype=np.float32)

    def _warm_up(self, bundle: Bundle) -> None:
        size = self._metadata.working_size, max(self.smallest, self._metadata.working_size * 3 // 4)
        for height, width in (size, size[::-1], size):
            try:
                planes = self.probabilities(np.full((height, width, 3), 127, dtype=np.uint8))
            except Exception as fault:  # ONNX Runtime has a dozen exceptions without a common base
                raise BundleError(f"{bundle.path}: the network fails its warm-up ({fault}); export it again") from fault
            expected = (len(self._metadata.classes), height, width)
            if planes.shape != expected or not np.allclose(planes.sum(axis=0), 1, atol=1e-2):
                raise BundleError(
                    f"{bundle.path}: the network's output is {planes.shape} with sum {planes.sum(axis=0).mean():.3g}, "
                    f"expected {expected}, probabilities with sum 1; export it again"
                )


def _has_driver() -> bool:
    try:
        ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return False
    return True
