"""Runs and tasks whose process was killed do not stay Running.

Whoever holds the workspace's lock knows that no other run is at work in it. So each run that takes the lock puts the
workspace's tag on itself, and buries every run that carries the tag and still counts as running.

What such a run held of Prefect's concurrency limits, and who gives it back:
- the slot of its deployment: the server, when the run is marked Crashed; without that, when the lease ends, at most
  five minutes after the kill;
- slots of `concurrency(...)` and of limits by tag: the server, when their lease ends, `lease_duration` (300 s unless
  told, at least 60 s) after it was last renewed, and some seconds more; leases have no owner that Prefect's API would
  tell, so nothing here can give them back sooner. Those of a server that keeps leases in memory are lost when it is
  restarted, and their slots with them, for ever: flows/orchestration/server.py keeps them in files.
"""

import os
import secrets
import time
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect import State
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterParentFlowRunId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.context import FlowRunContext
from prefect.exceptions import PrefectException
from prefect.logging import get_logger
from prefect.states import Cancelled, Crashed

from flows.orchestration.notifications import event_of, notify
from flows.settings import NotifySettings
from tagmask.files import atomic_write

PATIENCE_S = 5.0
"""Seconds that a run has from letting go of the lock to its last word."""

PAGE = 200
"""Runs that the server is asked for at a time."""

_RUNNING = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.CANCELLING]))

log = get_logger("tagmask.crashed")


def workspace_tag(root: Path) -> str:
    """The tag of runs that hold the lock of the workspace at `root`; the caller holds it.

    It is kept in the workspace, so it is the same in every container that mounts it; a copy of the workspace gets
    another one, as its file is another one.
    """
    path = root / "tag"
    try:
        tag, file = path.read_text().split()
        if int(file) == path.stat().st_ino:
            return tag
    except (OSError, ValueError):
        pass
    tag = f"workspace:{root.resolve().name}-{secrets.token_hex(4)}"
    with atomic_write(path) as new:
        new.write(f"{tag} {os.fstat(new.fileno()).st_ino}\n".encode())
    return tag


def mark_crashed_runs(root: Path, settings: NotifySettings) -> tuple[str, ...]:
    """Mark as Crashed the runs that died in the workspace at `root`, and tell whom `settings` name; their names.

    Called within a flow run that has just taken the workspace's lock. A run that was being cancelled becomes Cancelled,
    and nobody is told. Runs that a dead one had started, and its running tasks, go with it. Without such runs this is
    two requests; otherwise those found get PATIENCE_S to end by themselves, as they may have let go of the lock just
    now. Raises nothing that the server or the network cause; it is logged.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        raise RuntimeError("mark_crashed_runs is for flow runs")
    own = context.flow_run
    tag = workspace_tag(root)
    buried = []
    try:
        with get_client(sync_client=True) as client:
            client.update_flow_run(own.id, tags={*own.tags, tag})
            for run in _silent(client, tag, own.id):
                if _bury(client, run, own.name, root, settings):
                    buried.append(run.name)
    except (httpx.HTTPError, PrefectException) as fault:
        log.warning("workspace %s: crashed runs may still count as running: %s", root, fault)
    return tuple(buried)


@contextmanager
def workers_may_die() -> Iterator[None]:
    """Within a flow run: when a process of its pool is killed, the tasks that it had do not stay Running."""
    try:
        yield
    except BrokenProcessPool:
        context = FlowRunContext.get()
        if context and context.flow_run:
            time.sleep(PATIENCE_S / 5)  # until the server knows what the dead process told last
            try:
                with get_client(sync_client=True) as client:
                    _bury_tasks(client, context.flow_run.id, "its process was killed")
            except (httpx.HTTPError, PrefectException) as fault:
                log.warning("run %s: tasks may still count as running: %s", context.flow_run.name, fault)
        raise


def _silent(client: SyncPrefectClient, tag: str, own: UUID) -> list[FlowRun]:
    """Runs with `tag` that count as running for longer than PATIENCE_S."""
    limit = time.monotonic() + PATIENCE_S
    tagged = FlowRunFilter(tags=FlowRunFilterTags(all_=[tag]), id=FlowRunFilterId(not_any_=[own]), state=_RUNNING)
    while (runs := client.read_flow_runs(flow_run_filter=tagged, limit=PAGE)) and time.monotonic() < limit:
        time.sleep(0.5)
    return runs


def _bury(client: SyncPrefectClient, run: FlowRun, finder: str, root: Path, settings: NotifySettings) -> bool:
    """Whether `run` had not ended before."""
    why = f"its process ended without a word; found by run {finder}"
    cancelled = run.state_type == StateType.CANCELLING
    state: State[Any] = Cancelled(message=why) if cancelled else Crashed(message=why)
    children = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[run.id]), state=_RUNNING)
    )
    _bury_tasks(client, run.id, why)
    result = client.set_flow_run_state(run.id, state)
    if result.status != SetStateStatus.ACCEPT:
        return False
    log.warning("run %s: %s", run.name, why)
    for child in children:
        _bury(client, child, finder, root, NotifySettings())
    if not cancelled:
        notify(settings, event_of(client.read_flow(run.flow_id).name, run, str(root), state))
    return True


def _bury_tasks(client: SyncPrefectClient, run: UUID, why: str) -> None:
    running = TaskRunFilter(state=TaskRunFilterState(type=TaskRunFilterStateType(any_=[StateType.RUNNING])))
    of_run = FlowRunFilter(id=FlowRunFilterId(any_=[run]))
    for task in client.read_task_runs(flow_run_filter=of_run, task_run_filter=running, limit=PAGE):
        client.set_task_run_state(task.id, Crashed(message=why))
