"""DenseCRF for refine=crf, in child processes.

pydensecrf holds the interpreter's lock for hundreds of milliseconds, during which a server could answer no request.
Photos are sent to the children as raw bytes over a socket.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tagmask.crf.dense import CrfConfig, require_pydensecrf
from tagmask.crf.worker import HEADER
from tagmask.errors import Internal, TimedOut, Unavailable
from tagmask.segmentation import Pixels, Planes

_WORKER = Path(__file__).with_name("worker.py")
_REMEDY = "send it again, or leave refine out"


class Refiner:
    """DenseCRF in at most `processes` child processes, which start when they are first needed.

    Children end with this process, however it ends, at the latest when their current photo is done. SIGINT and SIGTERM
    do not reach them: photos in progress finish when the server stops.
    """

    def __init__(self, processes: int) -> None:
        self._slots = threading.BoundedSemaphore(processes)
        self._lock = threading.Lock()
        self._idle: list[_Child] = []
        self._closed = False

    def refine(self, photo: Pixels, probabilities: Planes, config: CrfConfig, seconds: float) -> Planes:
        """Label probabilities after mean-field inference: (L, h, w) float32, summing to 1 at each pixel.

        `photo` (h, w, 3) uint8 RGB, `probabilities` (L, h, w) float32 of the L labels that may appear. May be called
        from several threads. Raises TimedOut when there is no answer within `seconds`, waiting for a free process
        included, Internal when the process dies, Unavailable after `close`, ConfigError without pydensecrf.
        """
        if photo.shape != (*probabilities.shape[1:], 3):
            raise ValueError(f"photo has shape {photo.shape}, probabilities have {probabilities.shape}")
        if len(probabilities) == 1:
            return np.ones_like(probabilities)
        require_pydensecrf()
        deadline = time.monotonic() + seconds
        try:
            with self._child(deadline) as child:
                return child.refine(photo, probabilities, config, deadline)
        except TimeoutError:
            remedy = "send a smaller photo or fewer tags, or leave refine out"
            message = f"refine=crf took longer than {seconds:.3g} s; {remedy}"
            raise TimedOut(message, field="refine", limit=seconds) from None
        except OSError as fault:
            raise Internal(
                f"refine=crf failed: its process died or did not start; {_REMEDY}", field="refine"
            ) from fault

    def close(self) -> None:
        """End the children: idle ones now, the others when they have answered."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for child in idle:
            child.end()

    @contextmanager
    def _child(self, deadline: float) -> Iterator["_Child"]:
        """A child for exclusive use. After a failure it is discarded, as a response may still be in transit."""
        if not self._slots.acquire(timeout=max(0, deadline - time.monotonic())):
            raise TimeoutError
        try:
            child = self._idle_child() or _Child()
            try:
                yield child
            except BaseException:
                child.end()
                raise
            self._give_back(child)
        finally:
            self._slots.release()

    def _idle_child(self) -> "_Child | None":
        with self._lock:
            if self._closed:
                raise Unavailable(f"refine=crf: the service is stopping; {_REMEDY}", code="stopping", field="refine")
            while self._idle:
                child = self._idle.pop()
                if child.alive:
                    return child
                child.end()
        return None

    def _give_back(self, child: "_Child") -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(child)
                return
        child.end()


class _Child:
    """One process and the socket to it."""

    def __init__(self) -> None:
        self._channel, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = _start(theirs)
            except BaseException:
                self._channel.close()
                raise

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def refine(self, photo: Pixels, probabilities: Planes, config: CrfConfig, deadline: float) -> Planes:
        """Raises TimeoutError at `deadline`, ConnectionError when the process dies."""
        header = HEADER.pack(*probabilities.shape, *config.strengths)
        for part in (header, np.ascontiguousarray(photo).data, np.ascontiguousarray(probabilities).data):
            self._wait_until(deadline)
            self._channel.sendall(part)
        refined = np.empty(probabilities.shape, dtype=np.float32)
        missing = refined.data.cast("B")
        while missing:
            self._wait_until(deadline)
            received = self._channel.recv_into(missing)
            if not received:
                raise ConnectionResetError("the process ended")
            missing = missing[received:]
        return refined

    def end(self) -> None:
        self._channel.close()
        self._process.kill()
        self._process.wait()

    def _wait_until(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._channel.settimeout(left)


def _start(channel: socket.socket) -> subprocess.Popen[bytes]:
    """Start the worker with `channel` as its standard input; of this process's other files it gets stderr alone.

    A new interpreter, not a fork, which would inherit the server's memory, thread locks and sockets.
    """
    command = [sys.executable, "-P", str(_WORKER)]  # -P: this folder's modules must not hide the standard library's
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    # The signal mask is inherited, so these signals cannot end the child at any time.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        return subprocess.Popen(command, stdin=channel.fileno(), stdout=subprocess.DEVNULL, env=environment)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
