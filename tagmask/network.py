"""The network of a bundle: warmed up, its threads shared by the photos in work, and its output checked."""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tagmask.bundle import Bundle
from tagmask.cores import cores
from tagmask.dequantization import dequantize
from tagmask.errors import BundleError, Internal, TimedOut
from tagmask.inputs import Precision
from tagmask.memory import return_freed_memory
from tagmask.segmentation import Pixels, Planes
from tagmask.session import open_session, run_session
from tagmask.softmax import split_softmax

log = logging.getLogger("tagmask.network")

WARM_UP_SECONDS = 60.0
"""Maximum seconds to load and warm up a network."""

_TOLERANCE = 1e-2  # of probabilities and their sum, in half precision

_FLOAT_GAIN = 1.1  # how many times as long int8 must take as float to be replaced; less is noise
_TIMED_RUNS = 5  # of each, of which the fastest counts


@dataclass(frozen=True)
class NetworkOutput:
    """`probabilities` (labels, h, w) float32, summing to 1 over labels, and of a network with a tag head the
    probabilities of the `tags`, (labels - 1,) float32, 0..1.
    """

    probabilities: Planes
    tags: NDArray[np.float32] | None


class Network:
    """The warmed-up network of a bundle. Any number of threads may call `infer` at once.

    A lone photo is done soonest with a thread on each core; as many photos as cores, with one thread each. On a CPU
    photos therefore share the threads: a session has a fixed number, and one with half as many is opened in the
    background when more photos are in work than it leaves cores for; until then the photos use the session before.
    Attributes: `provider`, the execution provider in use; `precision` of the computation, that of the bundle, but
    "fp32" for an int8 bundle where float is faster; `smallest`, least side of an input in pixels.
    """

    def __init__(
        self,
        bundle: Bundle,
        device: str,
        threads: int | None,
        seconds: float,
        gpu_memory: int | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Open `bundle`; `device` and `gpu_memory` are those of `open_session`, `seconds` the time limit of a photo.
        On a CPU `threads`, by default one per core, compute a lone photo. `clock` gives the seconds by which int8 is
        compared with float. Raises what `open_session` raises, and BundleError when the network cannot be run, gives
        another output than the metadata declares, or is not warm within WARM_UP_SECONDS.
        """
        self._metadata = bundle.metadata
        self._path = bundle.path
        self._outputs = [port.name for port in (bundle.metadata.output, bundle.metadata.tags) if port]
        self.smallest = bundle.metadata.smallest_size
        self._seconds = seconds
        threads = cores() if threads is None else threads
        opened = partial(open_session, device=device, threads=threads, gpu_memory=gpu_memory, name=bundle.path)
        self._data = split_softmax(bundle.data, bundle.metadata.output.name)  # ONNX Runtime keeps it as well
        self._session = opened(self._data)
        self.provider: str = self._session.get_providers()[0]
        self.precision: Precision = bundle.metadata.precision
        self._warm_up(bundle)
        if self.precision == "int8":
            in_float = split_softmax(dequantize(bundle), bundle.metadata.output.name)
            self._use_faster(opened(in_float), bundle, clock)
            if self.precision != "int8":
                self._data = in_float
        self._threads = threads if self.provider == "CPUExecutionProvider" else 1
        self._cores = cores()
        self._further: dict[int, Any] = {}  # sessions by their threads; None until one is open
        self._in_work = 0
        self._calls_to_idle = 2  # of `return_idle_memory` until it returns memory; 0 when it has
        self._lock = threading.Lock()

    @contextmanager
    def photo_in_work(self) -> Iterator[None]:
        """Count a photo as in work."""
        with self._lock:
            self._in_work += 1
            self._calls_to_idle = 2
        try:
            yield
        finally:
            with self._lock:
                self._in_work -= 1

    def return_idle_memory(self) -> None:
        """On a CPU, return the memory that photos took to the system, if there were none since the last call."""
        with self._lock:
            if self._in_work or not self._calls_to_idle or self.provider != "CPUExecutionProvider":
                return
            self._calls_to_idle -= 1
            if self._calls_to_idle:
                return
        photo = np.full((self.smallest, self.smallest, 3), 127, dtype=np.uint8)
        with suppress(TimeoutError, _NetworkError):
            for session in filter(None, (self._session, *self._further.values())):
                self._run(session, photo, self._seconds, shrink=True)  # ONNX Runtime returns memory after a run
        return_freed_memory()

    def infer(self, photo: Pixels) -> NetworkOutput:
        """The output for `photo` (h, w, 3) uint8 RGB, no side below `smallest`.

        A network may depend on the photo in any way: raises TimedOut when it takes longer than `seconds`, Internal when
        it fails or its output is anything but probabilities.
        """
        version = self._metadata.version
        session, stopgap = self._session_in_turn()
        try:
            return self._run(session, photo, self._seconds, shrink=stopgap)
        except TimeoutError:
            message = f"model {version}: the network takes longer than {self._seconds:g} s; serve another model"
            raise TimedOut(message, limit=self._seconds) from None
        except _NetworkError as fault:
            message = f"model {version}: the network {fault} for this photo; serve another model"
            raise Internal(message, code="model_failed") from fault

    def _session_in_turn(self) -> tuple[Any, bool]:
        """The session with the most threads that the cores suffice for when each photo in work has as many.

        Until it is open, the one with the next larger number is a stopgap, which the second value tells.
        """
        with self._lock:
            threads, session = self._threads, self._session
            while threads > 1 and self._in_work > 1 and threads * self._in_work > self._cores:
                threads //= 2
                session = self._further.get(threads) or session
            if threads < self._threads and threads not in self._further:
                self._further[threads] = None
                threading.Thread(target=self._open_further, args=(threads,)).start()
            return session, threads < self._threads and self._further[threads] is None

    def _open_further(self, threads: int) -> None:
        try:
            self._further[threads] = open_session(self._data, device="cpu", threads=threads, name=self._path)
        except BundleError as fault:  # such as for lack of memory
            log.warning("photos in work at once take longer", extra={"reason": str(fault)})

    def _run(self, session: Any, photo: Pixels, seconds: float, shrink: bool = False) -> NetworkOutput:
        """As `infer`, by `session`, which then returns memory if `shrink`. Raises TimeoutError and _NetworkError."""
        image = np.ascontiguousarray(photo.transpose(2, 0, 1)[None], dtype=np.float32)  # (1, 3, h, w)
        try:
            outputs = run_session(session, self._outputs, {self._metadata.input.name: image}, seconds, shrink=shrink)
        except TimeoutError:
            raise
        except Exception as fault:  # ONNX Runtime has a dozen exceptions without a common base
            raise _NetworkError("cannot be run") from fault
        labels = len(self._metadata.classes)
        for output, shape in zip(outputs, ((1, labels, *photo.shape[:2]), (1, labels - 1)), strict=False):
            if output.shape != shape:
                raise _NetworkError(f"gives an output of shape {output.shape} instead of {shape}")
        planes, *tags = (np.asarray(output[0], dtype=np.float32) for output in outputs)
        if not (planes.min() >= -_TOLERANCE and np.abs(planes.sum(axis=0) - 1).max() <= _TOLERANCE):  # nor NaN
            raise _NetworkError("gives values that are not probabilities with sum 1")
        if tags and not (tags[0].min() >= 0 and tags[0].max() <= 1):  # nor NaN
            raise _NetworkError("gives values that are not probabilities of tags")
        return NetworkOutput(planes, tags[0] if tags else None)

    def _warm_up(self, bundle: Bundle) -> None:
        deadline = time.monotonic() + WARM_UP_SECONDS
        height, width = self._size
        for size in ((height, width), (width, height), (height, width)):
            self._try(bundle, size, deadline)

    def _use_faster(self, in_float: Any, bundle: Bundle, clock: Callable[[], float]) -> None:
        """Replace the int8 session by `in_float` if that is faster; in turns, so that other load affects both."""
        deadline = time.monotonic() + WARM_UP_SECONDS
        sessions: dict[Precision, Any] = {"int8": self._session, "fp32": in_float}
        fastest = dict.fromkeys(sessions, math.inf)
        for _ in range(_TIMED_RUNS):
            for precision, self._session in sessions.items():
                begun = clock()
                self._try(bundle, self._size, deadline)
                fastest[precision] = min(fastest[precision], clock() - begun)
        if fastest["int8"] > _FLOAT_GAIN * fastest["fp32"]:
            self.precision = "fp32"
        self._session = sessions[self.precision]

    @property
    def _size(self) -> tuple[int, int]:
        """Height and width of a usual input."""
        return self._metadata.working_size, max(self.smallest, self._metadata.working_size * 3 // 4)

    def _try(self, bundle: Bundle, size: tuple[int, int], deadline: float) -> None:
        """Run a grey photo of `size`. Raises BundleError."""
        try:
            self._run(self._session, np.full((*size, 3), 127, dtype=np.uint8), deadline - time.monotonic())
        except TimeoutError:
            raise not_warm(bundle.path) from None
        except _NetworkError as fault:
            cause = f" ({fault.__cause__})" if fault.__cause__ else ""
            message = f"{bundle.path}: the network fails its warm-up: it {fault}{cause}; export it again"
            raise BundleError(" ".join(message.split())) from fault


def not_warm(path: Path) -> BundleError:
    """The error for the bundle at `path` whose warm-up takes too long."""
    return BundleError(
        f"{path}: the network takes more than {WARM_UP_SECONDS:g} s to load and warm up; export it again"
    )


class _NetworkError(Exception):
    """What the network does wrong, as a predicate."""
