"""Notifications when a flow fails or crashes, by a command or a notification block of Prefect.

Both are settings of the process that runs the flow, never of the run: whoever may start a run must not choose commands.
Addresses and tokens are in the block or in the command's environment. Errors are only logged.
"""

import inspect
import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import prefect.blocks.notifications
from prefect import Flow, State
from prefect.blocks.core import Block
from prefect.client.schemas.objects import FlowRun
from prefect.logging import get_logger
from prefect.utilities.asyncutils import run_coro_as_sync
from prefect.utilities.urls import url_for

from flows.settings import NotifySettings, load_notify
from tagmask.errors import ConfigError

COMMAND_S = 30.0
"""Time limit of the command in seconds."""

log = get_logger("tagmask.notify")


@dataclass(frozen=True)
class Event:
    """The failure of a run: `flow` and `run` are names, `url` is its page in the Prefect UI, None without a UI."""

    flow: str
    run: str
    workspace: str
    state: Literal["failed", "crashed"]
    message: str
    url: str | None
    time: datetime

    @property
    def subject(self) -> str:
        return f"Tagmask: {self.flow} {self.state}"

    @property
    def body(self) -> str:
        lines = [f"Run {self.run} of {self.flow} {self.state}: {self.message}", f"workspace {self.workspace}"]
        return "\n".join([*lines, *([self.url] if self.url else []), f"{self.time:%Y-%m-%d %H:%M:%S %Z}"])


def notify(settings: NotifySettings, event: Event) -> None:
    """Send `event` by the command and the block of `settings`, if any. Raises nothing.

    The command receives one line of JSON on stdin: the fields of `event`, with `time` in ISO 8601. It runs without a
    shell, for at most COMMAND_S seconds.
    """
    if settings.command:
        _logged("command", settings.command[0], lambda: _run(settings.command, event))
    if settings.block:
        block = settings.block
        _logged("block", block, lambda: _send(block, event))


def notify_failure(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Hook for a flow's `on_failure` and `on_crashed`. Reads the flow's parameter `workspace`."""
    try:
        notification = load_notify(None)
    except ConfigError as error:
        log.warning("%s: no notification is sent: %s", flow_run.name, error)
        return
    workspace = Path(flow_run.parameters.get("workspace", "")).absolute()
    notify(notification, event_of(flow.name, flow_run, str(workspace), state))


def event_of(flow: str, run: FlowRun, workspace: str, state: State[Any]) -> Event:
    """The event for `run` of the flow named `flow` ending in `state`."""
    return Event(
        flow=flow,
        run=run.name,
        workspace=workspace,
        state="crashed" if state.is_crashed() else "failed",
        message=state.message or "",
        url=url_for(run),
        time=datetime.now(UTC),
    )


def _logged(kind: str, name: str, send: Callable[[], None]) -> None:
    try:
        send()
    except Exception as error:
        log.error("notification by %s %s failed: %s; check the setting notify.%s", kind, name, error, kind)


def _run(command: tuple[str, ...], event: Event) -> None:
    line = json.dumps({**asdict(event), "time": event.time.isoformat()}) + "\n"
    # The variable is Tagmask's own: it would keep a user's script from importing the modules beside it.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    done = subprocess.run(
        command,
        input=line,
        text=True,
        errors="replace",
        capture_output=True,
        env=environment,
        timeout=COMMAND_S,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"exit status {done.returncode}: {(done.stderr or done.stdout).strip()[-500:]}")


def _send(name: str, event: Event) -> None:
    block: Any = Block.load(name)
    if not isinstance(block, prefect.blocks.abstract.NotificationBlock):
        raise TypeError(f"it is a {type(block).__name__}, not a notification block")
    with block.raise_on_failure():
        sent = block.notify(body=event.body, subject=event.subject)
        if inspect.isawaitable(sent):
            run_coro_as_sync(sent)
