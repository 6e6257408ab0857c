"""Progress of a stage: a progress artifact in Prefect's pages, and lines in the run's log and the terminal."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from threading import Event, Lock, Thread
from typing import Any, TypeAlias, cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.exceptions import MissingContextError
from prefect.futures import PrefectFuture, as_completed
from prefect.logging import get_run_logger

from tagmask.progress import Advance
from training.run.duration import duration

Log: TypeAlias = "logging.Logger | logging.LoggerAdapter[Any]"

KEY = "progress"
"""One artifact of this key is used by one stage after another; stages side by side have one each."""

PATIENCE = 1.0
"""Seconds that the end of a stage waits for Prefect to be told of it."""


def run_logger() -> tuple[Log, bool]:
    """The logger of the task or flow that runs here, and whether one runs; otherwise this package's own logger."""
    try:
        return get_run_logger(), True
    except MissingContextError:
        return logging.getLogger("flows"), False


class PrefectProgress:
    """Shows stages of the flow or task that runs here; fulfils `tagmask.progress.Progress`.

    Any number of threads may open and advance stages. Prefect is told by a thread of its own, so that one that is
    slow or away costs a stage at most PATIENCE, and never its result. Outside a run nothing but lines are logged.
    """

    def __init__(self, *, show_every: float = 2.0, tell_every: float = 15.0) -> None:
        """The artifact is brought up to date every `show_every` seconds, a line is logged every `tell_every`."""
        self._show_every, self._tell_every = show_every, tell_every
        self._idle: list[UUID] = []
        self._complained = False

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Advance]:
        """Show stage `name` of `total` photos, 0 when nobody knows how many, while the context is open."""
        log, within_run = run_logger()
        stage = _Stage(name, total, log, self._tell_every)
        over = Event()
        shower = Thread(target=copy_context().run, args=(self._show, stage, over), daemon=True)
        if within_run:
            shower.start()
        try:
            yield stage.advance
        except BaseException:
            stage.end("stopped")
            raise
        else:
            stage.end("done")
        finally:
            over.set()
            if within_run:
                shower.join(PATIENCE)

    def _show(self, stage: "_Stage", over: Event) -> None:
        """Keep the artifact of `stage` up to date until it is over; what goes wrong is logged, the first time."""
        artifact, shown = self._idle.pop() if self._idle else None, -1
        try:
            ended = False
            while not ended:
                ended = over.wait(self._show_every)
                if ended or stage.done != shown:
                    shown = stage.done
                    artifact = _show(artifact, stage.percent(), stage.text())
            if artifact is not None:
                self._idle.append(artifact)
        except Exception as fault:  # whatever it is, it must not end a training
            stage.log.log(
                logging.DEBUG if self._complained else logging.WARNING,
                "progress cannot be shown in Prefect (%s: %s); the work goes on",
                type(fault).__name__,
                fault,
            )
            self._complained = True


class _Stage:
    """How far a stage is."""

    def __init__(self, name: str, total: int, log: Log, tell_every: float) -> None:
        self.log, self.done = log, 0
        self._name, self._total, self._tell_every = name, total, tell_every
        self._lock = Lock()
        self._begun = time.monotonic()
        self._tell_at = self._begun + tell_every
        self._end: str | None = None
        log.info(f"{name}, {_photos(total)}" if total else name)

    def advance(self, photos: int) -> None:
        """`photos` more are done."""
        now = time.monotonic()
        with self._lock:
            self.done += photos
            if now < self._tell_at or 0 < self._total <= self.done:
                return
            self._tell_at = now + self._tell_every
        self.log.info(self.text())

    def end(self, how: str) -> None:
        """The stage is "done" or "stopped"."""
        took = duration(time.monotonic() - self._begun)
        if how == "done":
            done = self._so_far() if self.done < self._total else _photos(self._total or self.done)
            self._end = f"{self._name}, {done} in {took}"
        else:
            self._end = f"{self._name}, {how} at {self._so_far()} after {took}"
        self.log.log(logging.INFO if how == "done" else logging.WARNING, self._end)

    def percent(self) -> float:
        if self._total == 0:
            return 0.0 if self._end is None else 100.0
        return round(min(100.0, 100.0 * self.done / self._total), 1)

    def text(self) -> str:
        if self._end is not None:
            return self._end
        left = ""
        if 0 < self.done < self._total:
            passed = time.monotonic() - self._begun
            left = f", {duration(passed * (self._total - self.done) / self.done)} left"
        return f"{self._name}, {self._so_far()}{left}"

    def _so_far(self) -> str:
        return f"{self.done:,} of {_photos(self._total)}" if self._total else _photos(self.done)


def advance_as_completed(futures: Sequence[PrefectFuture[Any]], photos: Sequence[int], advance: Advance) -> None:
    """Wait for the tasks of mapped shards; `advance(n)` follows each one that succeeds, `photos[i]` for `futures[i]`.

    Raises nothing for a task that fails: its future's `result()` does.
    """
    size = dict(zip(futures, photos, strict=True))
    for future in as_completed(list(futures)):
        try:
            future.result()
        except Exception:  # for whoever asks for the result
            continue
        advance(size[future])


def _photos(number: int) -> str:
    return f"{number:,} photo{'' if number == 1 else 's'}"


def _show(artifact: UUID | None, percent: float, text: str) -> UUID:
    if artifact is None:
        return cast(UUID, create_progress_artifact(percent, key=KEY, description=text))
    return cast(UUID, update_progress_artifact(artifact, percent, description=text))
