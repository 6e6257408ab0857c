"""The network of a bundle at work, by ONNX Runtime."""

import ctypes
import os
from typing import Any

import numpy as np

from tagmask.bundle import Bundle
from tagmask.errors import BundleError
from tagmask.segmentation import Pixels, Planes

# ONNX Runtime reports to its maker by default, and reads the switch when it is first imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime

onnxruntime.disable_telemetry_events()

_SILENT = 4
"""Severity above which ONNX Runtime writes to standard error; what goes wrong is raised."""


class Network:
    """A warmed-up session. Any number of threads may call `probabilities` at once.

    Attributes: `provider`, the execution provider that ran the warm-up; `smallest`, least side in pixels.
    """

    def __init__(self, bundle: Bundle, device: str, threads: int) -> None:
        """Open `bundle` on `device` ("auto", "cpu", "cuda"); `threads` compute each operator on a CPU.

        Raises BundleError when ONNX Runtime cannot load or run it, or gives something else than promised, and when
        "cuda" is asked for and does not work.
        """
        self._metadata = bundle.metadata
        self.smallest = bundle.metadata.smallest_size
        self._session = _open(bundle, device, threads)
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
            promised = (len(self._metadata.classes), height, width)
            if planes.shape != promised or not np.allclose(planes.sum(axis=0), 1, atol=1e-2):
                raise BundleError(
                    f"{bundle.path}: the network gives {planes.shape} of sum {planes.sum(axis=0).mean():.3g}, promised "
                    f"are {promised} probabilities that sum to 1; export it again"
                )


def _open(bundle: Bundle, device: str, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _SILENT
    options.intra_op_num_threads = threads
    # Threads that spin while they wait would take the cores from the other photos in work.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_mem_pattern = False  # a plan is kept for each size of photo, and there are thousands of sizes
    providers: list[Any] = ["CPUExecutionProvider"]
    if device == "cuda" or (device == "auto" and _has_driver()):
        onnxruntime.set_default_logger_severity(_SILENT)
        onnxruntime.preload_dlls()
        providers.insert(0, "CUDAExecutionProvider")
    try:
        session = onnxruntime.InferenceSession(bundle.data, options, providers=providers)
    except Exception as fault:
        raise BundleError(f"{bundle.path}: ONNX Runtime cannot load it ({fault}); export it again") from fault
    # The list of available providers names CUDA without a GPU; the session's own list tells the truth.
    if device == "cuda" and "CUDAExecutionProvider" not in session.get_providers():
        raise BundleError("TAGMASK_DEVICE=cuda, but ONNX Runtime sees no usable GPU; set it to auto or cpu")
    return session


def _has_driver() -> bool:
    try:
        ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return False
    return True
