"""Somebody is told when a flow fails or dies: by a command of their own, or by a notification block of Prefect.

Addresses and tokens are in the block or in the command's environment, never in the settings. Telling never makes
things worse: what goes wrong with it is logged.
"""

import inspect
import json
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
from pydantic import ValidationError

from flows.settings import NotifySettings

COMMAND_S = 30.0
"""Seconds that the command may take."""

log = get_logger("tagmask.notify")


@dataclass(frozen=True)
class Event:
    """What happened to a run: `flow` and `run` are names, `url` the run's page, None when Prefect has no pages."""

    flow: str
    run: str
    workspace: str
    what: Literal["failed", "crashed"]
    message: str
    url: str | None
    when: datetime

    @property
    def subject(self) -> str:
        return f"Tagmask: {self.flow} {self.what}"

    @property
    def body(self) -> str:
        lines = [f"Run {self.run} of {self.flow} {self.what}: {self.message}", f"workspace {self.workspace}"]
        return "\n".join([*lines, *([self.url] if self.url else []), f"{self.when:%Y-%m-%d %H:%M:%S %Z}"])


def notify(settings: NotifySettings, event: Event) -> None:
    """Tell those whom `settings` name; without a command and a block, nobody. Raises nothing.

    The command gets one line of JSON on its input: the fields of `event`, with `when` in ISO 8601. It is run without a
    shell, and stopped after COMMAND_S.
    """
    if settings.command:
        _logged("command", settings.command[0], lambda: _run(settings.command, event))
    if settings.block:
        block = settings.block
        _logged("block", block, lambda: _send(block, event))


def tell(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """The hook for a flow's `on_failure` and `on_crashed`; the flow's parameters say whom to tell, and the workspace.

    Looked at are the parameters `settings`, as flows.settings.FlowSettings, and `workspace`.
    """
    settings = flow_run.parameters.get("settings")
    try:
        whom = NotifySettings.model_validate((settings or {}).get("notify", {}))
    except (ValidationError, AttributeError) as fault:
        log.warning("%s: parameter settings is not understood, nobody is told: %s", flow_run.name, fault)
        return
    workspace = Path(flow_run.parameters.get("workspace", "")).absolute()
    notify(whom, event_of(flow.name, flow_run, str(workspace), state))


def event_of(flow: str, run: FlowRun, workspace: str, state: State[Any]) -> Event:
    """What `state` means for `run` of the flow named `flow`."""
    return Event(
        flow=flow,
        run=run.name,
        workspace=workspace,
        what="crashed" if state.is_crashed() else "failed",
        message=state.message or "",
        url=url_for(run),
        when=datetime.now(UTC),
    )


def _logged(kind: str, name: str, tell_them: Callable[[], None]) -> None:
    try:
        tell_them()
    except Exception as fault:
        log.error("notification by %s %s failed: %s; check the setting notify.%s", kind, name, fault, kind)


def _run(command: tuple[str, ...], event: Event) -> None:
    line = json.dumps({**asdict(event), "when": event.when.isoformat()}) + "\n"
    done = subprocess.run(command, input=line, text=True, capture_output=True, timeout=COMMAND_S, check=False)
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
