"""The process that has torch, beside the flow's.

Prefect uses threads, and torch's loaders fork; a process that does both may deadlock. And a training that is killed for
lack of memory does not end the flow.
"""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import cached_property
from importlib import import_module
from typing import Any, Self

from tagmask.disk import SHARED_MEMORY, writable
from tagmask.errors import RunError, TagmaskError
from tagmask.progress import Advance, silent
from training.datasets.parallel import follow_parent
from training.fitting.process import spin_briefly
from training.stages.base import Stage

_advance: Advance = silent


class TrainingProcess:
    """A context in which functions of `training.run.worker` run in one process of their own.

    They are called by name, so that the flow's process does not load them, and torch with them.
    """

    def __init__(self, device: str) -> None:
        """`device` is "auto", "cpu" or "cuda"."""
        self._name = device

    @cached_property
    def device(self) -> str:
        """The device as "cpu" or "cuda". Raises ConfigError if it is not available."""
        with _killed():
            return str(self._first.result())

    def __enter__(self) -> Self:
        context = multiprocessing.get_context("spawn")
        self._ends = self._progress, sender = context.Pipe(duplex=False)
        with writable(SHARED_MEMORY):
            self._pool = ProcessPoolExecutor(1, context, _begin, (sender,))
        # At once: loading torch takes seconds, which overlap with the stages before the first network.
        self._first = self._pool.submit(_run, "device_type", (self._name,))
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:  # it may be busy for hours
            for process in list((self._pool._processes or {}).values()):
                process.terminate()
        self._pool.shutdown(cancel_futures=True)
        for end in self._ends:
            end.close()

    def run(self, name: str, *arguments: Any, advance: Advance = silent) -> Any:
        """`training.run.worker.<name>(*arguments, advance=…)`, with each call of `advance` repeated in this process.

        Raises what that raises, and RunError if the process is killed.
        """
        with _killed(next((f" in {each.title}" for each in arguments if isinstance(each, Stage)), "")):
            future = self._pool.submit(_run, name, arguments)
            while not future.done():
                if self._progress.poll(0.2):
                    advance(self._progress.recv())
            while self._progress.poll():
                advance(self._progress.recv())
            return future.result()


@contextmanager
def _killed(where: str = "") -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool as fault:
        raise RunError(
            f"the training process was killed{where}, most likely for lack of memory; start again with a smaller batch "
            "or long_side; finished stages are kept"
        ) from fault


def _begin(sender: Any) -> None:
    global _advance
    spin_briefly()
    follow_parent()
    _advance = sender.send


def _run(name: str, arguments: tuple[Any, ...]) -> Any:
    try:
        return getattr(import_module("training.run.worker"), name)(*arguments, advance=_advance)
    except RuntimeError as fault:
        if isinstance(fault.__context__, OSError):  # torch.save hides the disk's error
            raise fault.__context__ from fault
        raise
    except TagmaskError as fault:  # torch's loader puts a traceback before the message
        raise type(fault)(str(fault).rpartition(f"{type(fault).__name__}: ")[2].strip()) from fault
