"""Progress of a stage: a progress artifact in the Prefect UI, and lines in the run's log and on the terminal."""

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
from prefect.futures import PrefectFuture
from prefect.logging import get_run_logger

from flows.orchestration.task_runners import NotStartedError, as_completed
from tagmask.progress import Advance
from tagmask.wording import count
from training.run.duration import duration

Log: TypeAlias = "logging.Logger | logging.LoggerAdapter[Any]"

KEY = "progress"
"""Successive stages share one artifact of this key; concurrent stages have one each."""

JOIN_S = 1.0
"""Seconds that the end of a stage waits for the last update of its artifact."""


def run_logger() -> tuple[Log, bool]:
    """The logger of the current task or flow and True; outside a run this package's own logger and False."""
    try:
        return get_run_logger(), True
    except MissingContextError:
        return logging.getLogger("flows"), False


class PrefectProgress:
    """Reports stages of the current flow or task; implements `tagmask.progress.Progress`.

    Any number of threads may open and advance stages. Artifacts are updated by a thread of their own, so a slow or
    unreachable server costs a stage at most JOIN_S seconds, and never its result. Outside a run, stages are only
    logged.
    """

    def __init__(self, *, update_every: float = 2.0, log_every: float = 15.0) -> None:
        """Update the artifact every `update_every` seconds, and log a line every `log_every` seconds."""
        self._update_every, self._log_every = update_every, log_every
        self._idle: list[UUID] = []
        self._warned = False

    @contextmanager
    def stage(self, name: str, total: int, unit: str = "photo") -> Iterator[Advance]:
        """Report stage `name` of `total` photos, or others of the `unit`, (0 if unknown) in the context."""
        log, within_run = run_logger()
        stage = _Stage(name, total, unit, log, self._log_every)
        ended = Event()
        updater = Thread(target=copy_context().run, args=(self._update, stage, ended), daemon=True)
        if within_run:
            updater.start()
        try:
            yield stage.advance
        except BaseException:
            stage.end("stopped")
            raise
        else:
            stage.end("done")
        finally:
            ended.set()
            if within_run:
                updater.join(JOIN_S)

    def _update(self, stage: "_Stage", ended: Event) -> None:
        """Keep the artifact of `stage` up to date until it has ended; only the first error is a warning."""
        artifact, published = self._idle.pop() if self._idle else None, -1
        try:
            last = False
            while not last:
                last = ended.wait(self._update_every)
                if last or stage.done != published:
                    published = stage.done
                    artifact = _publish(artifact, stage.percent(), stage.text())
            if artifact is not None:
                self._idle.append(artifact)
        except Exception as error:  # must never end a training
            stage.log.log(
                logging.DEBUG if self._warned else logging.WARNING,
                "progress cannot be published (%s: %s); the work continues",
                type(error).__name__,
                error,
            )
            self._warned = True


class _Stage:
    """The progress of a stage."""

    def __init__(self, name: str, total: int, unit: str, log: Log, log_every: float) -> None:
        self.log, self.done = log, 0
        self._name, self._total, self._unit, self._log_every = name, total, unit, log_every
        self._lock = Lock()
        self._started = time.monotonic()
        self._log_at = self._started + log_every
        self._end: str | None = None
        log.info(f"{name}, {count(total, unit)}" if total else name)

    def advance(self, more: int) -> None:
        """Count so many `more` as done."""
        now = time.monotonic()
        with self._lock:
            self.done += more
            if now < self._log_at or 0 < self._total <= self.done:
                return
            self._log_at = now + self._log_every
        self.log.info(self.text())

    def end(self, result: str) -> None:
        """`result` is "done" or "stopped"."""
        elapsed = duration(time.monotonic() - self._started)
        if result == "done":
            done = self._so_far() if self.done < self._total else count(self._total or self.done, self._unit)
            self._end = f"{self._name}, {done} in {elapsed}"
        else:
            self._end = f"{self._name}, {result} at {self._so_far()} after {elapsed}"
        self.log.log(logging.INFO if result == "done" else logging.WARNING, self._end)

    def percent(self) -> float:
        if self._total == 0:
            return 0.0 if self._end is None else 100.0
        return round(min(100.0, 100.0 * self.done / self._total), 1)

    def text(self) -> str:
        if self._end is not None:
            return self._end
        left = ""
        if 0 < self.done < self._total:
            elapsed = time.monotonic() - self._started
            left = f", {duration(elapsed * (self._total - self.done) / self.done)} left"
        return f"{self._name}, {self._so_far()}{left}"

    def _so_far(self) -> str:
        return f"{self.done:,} of {count(self._total, self._unit)}" if self._total else count(self.done, self._unit)


def advance_as_completed(futures: Sequence[PrefectFuture[Any]], photos: Sequence[int], advance: Advance) -> None:
    """Wait for tasks of shards, and call `advance(photos[i])` when `futures[i]` succeeds.

    The error of a failed task is not raised; its future's `result()` raises it. Raises NotStartedError, and RunError as
    `as_completed` does.
    """
    sizes = dict(zip(futures, photos, strict=True))
    for future in as_completed(futures):
        try:
            future.result()
        except NotStartedError:  # nor could any other
            raise
        except Exception:  # raised again by result()
            continue
        advance(sizes[future])


def _publish(artifact: UUID | None, percent: float, text: str) -> UUID:
    if artifact is None:
        return cast(UUID, create_progress_artifact(percent, key=KEY, description=text))
    return cast(UUID, update_progress_artifact(artifact, percent, description=text))
