"""A flow that runs on this machine by the clock, until it is told to stop.

What keeps two runs from working at the same time is the workspace's lock (flows/workspace.py): it holds for flows that
know nothing of each other, by whatever server and however started, and goes with the process that holds it. The runner
of `schedule` only spares a process: when the second is to wait, it starts one run at a time; when it is to be skipped,
it starts the second as well, which finds the lock taken and ends.

A concurrency limit of Prefect's deployments is not used here. Its lease lasts five minutes, and a run whose lease is
lost, as after a sleep of the machine, is ended by Prefect in the midst of its work. prefect.yaml has one, for servers.

A run takes in all that is new when it starts. So one run is enough for all that were due while the machine slept or
another run was at work, see `cover_missed`.
"""

import asyncio
import signal
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import httpx
import tzlocal
from prefect import Flow, State
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import PrefectException
from prefect.logging import get_logger
from prefect.runner import Runner
from prefect.schedules import Cron, Schedule
from prefect.states import Cancelled
from pydantic import ValidationError

from flows.orchestration.server import prefect_server
from tagmask.errors import ConfigError

log = get_logger("tagmask.schedule")


def schedule(
    flow: Flow[..., Any],
    *,
    cron: str,
    parameters: Mapping[str, Any],
    timezone: str | None = None,
    second: Literal["wait", "skip"] = "wait",
    name: str = "schedule",
) -> None:
    """Run `flow` with `parameters` at the times of `cron`, in subprocesses of this one, until Ctrl-C or SIGTERM.

    `cron` has five fields: minute, hour, day of month, month, day of week, and a sixth for seconds if need be; times
    are those of `timezone` (IANA name), None for this machine's. `second` says what becomes of a run that is due while
    another is at work. `name` is the deployment's in Prefect, by which a run can be started by hand as well. A run that
    is at work at the end is cancelled. Raises ConfigError for times that do not exist, RunError without a server.
    """
    zone = timezone or tzlocal.get_localzone_name()
    first = _first(cron, zone)
    with prefect_server():
        by_hand = f"prefect deployment run {flow.name}/{name}"
        print(f"{flow.name}: first at {first:%Y-%m-%d %H:%M:%S %Z}; now by: {by_hand}", flush=True)
        asyncio.run(_serve(flow, Cron(cron, timezone=zone), parameters, 1 if second == "wait" else None, name))


class _Runner(Runner):
    """Prefect's runner, but a signal ends it; without this, one that has a run at work waits until that has ended."""

    def handle_sigterm(self, *_: Any) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # the second Ctrl-C does not wait for anything
        asyncio.get_running_loop().call_soon_threadsafe(self._end)

    def _end(self) -> None:
        self._ending = asyncio.ensure_future(self.astop())


async def _serve(
    flow: Flow[..., Any], times: Schedule, parameters: Mapping[str, Any], limit: int | None, name: str
) -> None:
    runner = _Runner(name=name, limit=limit)
    await runner.aadd_flow(flow, name=name, schedule=times, parameters=flow.serialize_parameters(dict(parameters)))
    before = signal.signal(signal.SIGINT, runner.handle_sigterm), signal.getsignal(signal.SIGTERM)
    try:
        await runner.start()
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGTERM, before[1])


def cover_missed(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """The hook for a flow's `on_running`: scheduled runs of its deployment that are due by now are cancelled.

    Those that somebody started by hand stay. Raises nothing that the server or the network cause; it is logged.
    """
    if flow_run.deployment_id is None:
        return
    due = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[flow_run.deployment_id]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
        expected_start_time=FlowRunFilterExpectedStartTime(before_=datetime.now(UTC)),
    )
    covered: State[Any] = Cancelled(
        message=f"{flow_run.name} started later than this was due, and takes in all that is new"
    )
    try:
        with get_client(sync_client=True) as client:
            missed = [each for each in client.read_flow_runs(flow_run_filter=due) if each.auto_scheduled]
            for each in missed:
                client.set_flow_run_state(each.id, covered)
    except (httpx.HTTPError, PrefectException) as fault:
        log.warning("%s: runs that it covers may still follow: %s", flow_run.name, fault)


def _first(cron: str, timezone: str) -> datetime:
    """When Prefect's server will start the first run; looked for because a 31st of February parses as any other day."""
    from prefect.server.schemas.schedules import CronSchedule  # a second, which flows that are served need not spend

    try:
        return asyncio.run(CronSchedule(cron=cron, timezone=timezone).get_dates(1))[0]
    except ValueError as fault:
        why = fault.errors()[0]["msg"].removeprefix("Value error, ") if isinstance(fault, ValidationError) else fault
        raise ConfigError(
            f"schedule {cron!r} in time zone {timezone!r}: {why}; give five fields, minute, hour, day of month, month, "
            "day of week, as in '0 3 * * *' for 3:00 every day, and a zone as in Europe/Berlin"
        ) from fault
