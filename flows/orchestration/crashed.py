"""Marks runs and tasks as Crashed when their process was killed.

The holder of a workspace's lock knows that no other run is active in it. So each run that acquires the lock adds the
workspace's tag to itself, and marks every other run that has the tag and still counts as running.

How Prefect's server frees the slots of concurrency limits that such a run held:
- the slot of its deployment: when the run is marked Crashed, or when its lease expires, at most five minutes after the
  kill;
- slots of `concurrency(...)` and of limits by tag: when their lease expires, `lease_duration` (default 300 s, minimum
  60 s) after it was last renewed. The API does not name the owner of a lease, so no other run can release it. A server
  that keeps leases in memory loses them, and thus the slots, on a restart: flows/orchestration/server.py keeps them in
  files.
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
from prefect.client.schemas import filters
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.context import FlowRunContext
from prefect.exceptions import PrefectException
from prefect.logging import get_logger
from prefect.states import Cancelled, Crashed

from flows.orchestration.notifications import event_of, notify
from flows.orchestration.pages import read_all
from flows.settings import NotifySettings
from tagmask.files import atomic_write

GRACE_S = 5.0
"""Seconds that a run may take from releasing the lock to reporting its final state."""

_RUNNING = filters.FlowRunFilterState(
    type=filters.FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.CANCELLING])
)

log = get_logger("tagmask.crashed")


def workspace_tag(root: Path) -> str:
    """The tag of all runs in the workspace at `root`; the caller holds the workspace's lock, or its schedule's.

    It is stored in the workspace, so it is the same in every container that mounts it. A copy of the workspace gets a
    new tag, because its file has another inode.
    """
    path = root / "tag"
    try:
        tag, inode = path.read_text().split()
        if int(inode) == path.stat().st_ino:
            return tag
    except (OSError, ValueError):
        pass
    tag = f"workspace:{root.resolve().name}-{secrets.token_hex(4)}"
    with atomic_write(path) as new:
        new.write(f"{tag} {os.fstat(new.fileno()).st_ino}\n".encode())
    return tag


def mark_crashed_runs(root: Path, settings: NotifySettings) -> tuple[str, ...]:
    """Mark runs that were killed in the workspace at `root` as Crashed, send notifications, and return their names.

    To be called in a flow run that has just acquired the workspace's lock. A run that was being cancelled is marked
    Cancelled, without a notification. Child runs and running tasks are marked too. Usually this takes two requests; if
    runs are found, they get GRACE_S seconds to end, as they may have released the lock just now. Errors of the server
    and the network are only logged.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        raise RuntimeError("mark_crashed_runs must be called in a flow run")
    own = context.flow_run
    tag = workspace_tag(root)
    marked = []
    try:
        with get_client(sync_client=True) as client:
            client.update_flow_run(own.id, tags={*own.tags, tag})
            for run in _stale_runs(client, tag, own.id):
                if _mark_run(client, run, own.name, root, settings):
                    marked.append(run.name)
    except (httpx.HTTPError, PrefectException) as error:
        log.warning("workspace %s: crashed runs may still count as running: %s", root, error)
    return tuple(marked)


@contextmanager
def mark_killed_tasks() -> Iterator[None]:
    """In a flow run: when a process of its pool is killed, mark the tasks that it was running as Crashed."""
    try:
        yield
    except BrokenProcessPool:
        context = FlowRunContext.get()
        if context and context.flow_run:
            time.sleep(GRACE_S / 5)  # until the server has the last events of the killed process
            try:
                with get_client(sync_client=True) as client:
                    _mark_tasks(client, context.flow_run.id, "its process was killed")
            except (httpx.HTTPError, PrefectException) as error:
                log.warning("run %s: tasks may still count as running: %s", context.flow_run.name, error)
        raise


def _stale_runs(client: SyncPrefectClient, tag: str, own: UUID) -> list[FlowRun]:
    """Runs with `tag` that still count as running after GRACE_S seconds."""
    limit = time.monotonic() + GRACE_S
    tagged = filters.FlowRunFilter(
        tags=filters.FlowRunFilterTags(all_=[tag]), id=filters.FlowRunFilterId(not_any_=[own]), state=_RUNNING
    )
    while (runs := read_all(client.read_flow_runs, flow_run_filter=tagged)) and time.monotonic() < limit:
        time.sleep(0.5)
    return runs


def _mark_run(client: SyncPrefectClient, run: FlowRun, finder: str, root: Path, settings: NotifySettings) -> bool:
    """Mark `run`; False if it has ended in the meantime."""
    message = f"its process ended without reporting a state; found by run {finder}"
    cancelled = run.state_type == StateType.CANCELLING
    state: State[Any] = Cancelled(message=message) if cancelled else Crashed(message=message)
    below = filters.FlowRunFilter(
        parent_flow_run_id=filters.FlowRunFilterParentFlowRunId(any_=[run.id]), state=_RUNNING
    )
    children = read_all(client.read_flow_runs, flow_run_filter=below)
    _mark_tasks(client, run.id, message)
    result = client.set_flow_run_state(run.id, state)
    if result.status != SetStateStatus.ACCEPT:
        return False
    log.warning("run %s: %s", run.name, message)
    for child in children:
        _mark_run(client, child, finder, root, NotifySettings())
    if not cancelled:
        notify(settings, event_of(client.read_flow(run.flow_id).name, run, str(root), state))
    return True


def _mark_tasks(client: SyncPrefectClient, run: UUID, message: str) -> None:
    # A task's events are sent in the background: one that was running may still be pending on the server.
    unfinished = filters.TaskRunFilterStateType(any_=[StateType.PENDING, StateType.RUNNING])
    state = filters.TaskRunFilter(state=filters.TaskRunFilterState(type=unfinished))
    of_run = filters.FlowRunFilter(id=filters.FlowRunFilterId(any_=[run]))
    for task in read_all(client.read_task_runs, flow_run_filter=of_run, task_run_filter=state):
        client.set_task_run_state(task.id, Crashed(message=message))
