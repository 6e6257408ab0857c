"""A flow that runs on a schedule on this machine, until it is stopped.

The workspace's lock (flows/workspace.py) prevents two runs at the same time, whatever server they report to and however
they were started, and it is released with the process that holds it. The runner of `schedule` only saves a process: if
a second run has to wait, one run is started at a time; if it is to be skipped, it is started, finds the lock held, and
ends.

Concurrency limits of Prefect's deployments are not used: their lease lasts five minutes, and Prefect ends a run
whose lease is lost, as after a suspension of the machine. prefect.yaml has one, for servers.

A run ingests everything new when it starts, so a single run makes up for all that were due while the machine was
suspended or another run was active, see `cancel_missed_runs`.
"""

import asyncio
import os
import signal
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import httpx
import tzlocal
from prefect import Flow, State
from prefect.client.orchestration import get_client
from prefect.client.schemas import filters
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import PrefectException
from prefect.logging import get_logger
from prefect.runner import Runner
from prefect.schedules import Cron, Schedule
from prefect.settings import get_current_settings
from prefect.states import Cancelled
from pydantic import ValidationError

from flows.orchestration.pages import read_all
from flows.orchestration.server import client_variables, prefect_server
from tagmask.errors import ConfigError

log = get_logger("tagmask.schedule")


def read_times(cron: str, timezone: str | None = None) -> Schedule:
    """The times of `cron` in `timezone` (IANA name, default: this machine's). Raises ConfigError for invalid ones.

    `cron` has five fields: minute, hour, day of month, month, day of week, and optionally seconds.
    """
    zone = timezone or _local_timezone()
    try:
        times = Cron(cron, timezone=zone)
        _first(times)  # 31 February parses like any other day
    except ValueError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ") if isinstance(error, ValidationError) else error
        raise ConfigError(
            f"schedule {cron!r} in time zone {zone!r}: {reason}; use five fields (minute, hour, day of month, month, "
            "day of week), such as '0 3 * * *' for 3:00 every day, and a zone such as Europe/Berlin"
        ) from error
    return times


def schedule(
    flow: Flow[..., Any],
    times: Schedule,
    *,
    parameters: Mapping[str, Any],
    name: str,
    if_busy: Literal["wait", "skip"] = "wait",
) -> None:
    """Run `flow` with `parameters` at the `times` of `read_times`, in subprocesses, until Ctrl-C or SIGTERM.

    `if_busy` applies to a run that is due while another is active. `name` is the name of the deployment in Prefect, by
    which runs can also be started by hand; a schedule of the same name would take it over. A run that is active at the
    end is cancelled. Raises RunError without a server.
    """
    first = _first(times)
    named = get_current_settings().api.url
    with prefect_server() as url:
        command = f"{'' if named else client_variables(url)}prefect deployment run {flow.name}/{name}"
        line = f"{flow.name}: first run at {first:%Y-%m-%d %H:%M:%S %Z}; to run it now: {command}"
        asyncio.run(_serve(flow, times, parameters, 1 if if_busy == "wait" else None, name, line))


class _Runner(Runner):
    """Prefect's runner, but a signal ends it at once, or as soon as it has started; the original waits for the active
    run, and fails before it has started.
    """

    _signalled = False

    def handle_sigterm(self, *_: Any) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a second Ctrl-C ends the process immediately
        asyncio.get_running_loop().call_soon_threadsafe(self._end)

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        if self._signalled:
            self._end()
        return self

    def _end(self) -> None:
        self._signalled = True
        if self.started:
            self._stopping = asyncio.ensure_future(self.astop())


async def _serve(
    flow: Flow[..., Any], times: Schedule, parameters: Mapping[str, Any], limit: int | None, name: str, line: str
) -> None:
    """Print `line` once the deployment is there, and run what is due; from before then on, signals pause it."""
    runner = _Runner(name=name, limit=limit)
    previous = {number: signal.signal(number, runner.handle_sigterm) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        await runner.aadd_flow(flow, name=name, schedule=times, parameters=flow.serialize_parameters(dict(parameters)))
        print(line, flush=True)
        await runner.start()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def cancel_missed_runs(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Hook for a flow's `on_running`: cancels scheduled runs of its deployment that are overdue.

    Runs started by hand are kept. Errors of the server and the network are only logged.
    """
    if flow_run.deployment_id is None:
        return
    due = filters.FlowRunFilter(
        deployment_id=filters.FlowRunFilterDeploymentId(any_=[flow_run.deployment_id]),
        state=filters.FlowRunFilterState(type=filters.FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
        expected_start_time=filters.FlowRunFilterExpectedStartTime(before_=datetime.now(UTC)),
    )
    cancelled: State[Any] = Cancelled(message=f"overdue when {flow_run.name} started, which ingests everything new")
    try:
        with get_client(sync_client=True) as client:
            missed = [each for each in read_all(client.read_flow_runs, flow_run_filter=due) if each.auto_scheduled]
            for each in missed:
                client.set_flow_run_state(each.id, cancelled)
    except (httpx.HTTPError, PrefectException) as error:
        log.warning("%s: overdue runs may still follow: %s", flow_run.name, error)


def _local_timezone() -> str:
    """IANA name of this machine's time zone. Raises ConfigError if it has none, as with TZ=CET-1CEST."""
    try:
        name = str(getattr(tzlocal.reload_localzone(), "key", ""))
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        variable = os.environ.get("TZ")
        source = f"TZ {variable!r}" if variable else "the configuration of this machine"
        raise ConfigError(f"{source} does not name a time zone; pass --timezone, such as Europe/Berlin") from error
    return name


def _first(times: Schedule) -> datetime:
    """When Prefect's server will start the first run. Raises ValueError if there is none."""
    from prefect.server.schemas.schedules import CronSchedule  # takes a second to import

    return asyncio.run(CronSchedule(cron=times.cron, timezone=times.timezone).get_dates(1))[0]
