"""What each worker is doing, in a file that outlives it, so that the next worker can log what a killed one left.

A worker that the system kills, mostly for lack of memory, logs nothing itself, and the log lines of its requests are
written when they end.
"""

import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from opentelemetry import trace

from service.telemetry import STAGE_SECONDS, request_id, shared_folder

log = logging.getLogger("tagmask.worker")

_PREFIX = "work-"
_TRACER = trace.get_tracer("tagmask")  # does nothing unless service/http/tracing.py has set up traces

_lock = threading.Lock()
_in_work: dict[int, dict[str, str | None]] = {}  # by thread
_file: int | None = None  # descriptor


@contextmanager
def recorded_activity() -> Iterator[None]:
    """Keep what this worker is doing in a file of the shared folder, if there is one, after logging what killed ones
    left.
    """
    global _file
    folder = shared_folder()
    if folder is None:
        yield
        return
    _log_killed(folder)
    path = folder / f"{_PREFIX}{os.getpid()}"
    _file = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        yield
    finally:
        descriptor, _file = _file, None
        path.unlink(missing_ok=True)
        os.close(descriptor)


def workers() -> tuple[int, ...]:
    """Process ids of the workers of this service that are running."""
    folder = shared_folder()
    found = map(_pid, folder.glob(f"{_PREFIX}*")) if folder else ()
    return tuple(sorted(filter(_is_running, found)))


@contextmanager
def doing(stage: str, path: str | None = None) -> Iterator[None]:
    """Record that this thread is in `stage` of the current request, which asked for `path`, or within another stage."""
    thread = threading.get_ident()
    outer = _in_work.get(thread)
    since = datetime.now(UTC).isoformat(timespec="milliseconds")
    inner = {"request_id": request_id.get(), "path": path, "stage": stage, "since": since}
    _set(thread, {**outer, "stage": stage, "since": since} if outer else inner)
    try:
        yield
    finally:
        _set(thread, outer)


@contextmanager
def observe_stage(stage: str) -> Iterator[None]:
    """Record that a photo is in `stage`, which is decode, inference, refine or encode, and for how many seconds.

    In a trace, it is a span.
    """
    start = time.perf_counter()
    with doing(stage), _TRACER.start_as_current_span(stage):
        yield
    STAGE_SECONDS.labels(stage).observe(time.perf_counter() - start)


def _set(thread: int, work: dict[str, str | None] | None) -> None:
    with _lock:
        if work is None:
            del _in_work[thread]
        else:
            _in_work[thread] = work
        if _file is not None:  # one line, after which may be the rest of a longer one
            os.pwrite(_file, json.dumps(list(_in_work.values())).encode() + b"\n", 0)


def _log_killed(folder: Path) -> None:
    for path in folder.glob(f"{_PREFIX}*"):
        pid = _pid(path)
        if pid != os.getpid() and _is_running(pid):
            continue
        with suppress(FileNotFoundError):  # another worker has logged it
            line = path.read_bytes().partition(b"\n")[0]
            path.unlink()
            log.error(
                "worker was killed, most likely for lack of memory",
                extra={"pid": pid, "in_work": json.loads(line or b"[]")},
            )


def _pid(path: Path) -> int:
    return int(path.name.removeprefix(_PREFIX))


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return isinstance(error, PermissionError)
    return True
