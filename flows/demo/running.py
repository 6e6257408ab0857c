"""A flow run from a program, and of its log what is of use on a terminal."""

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect import State
from prefect.logging.configuration import setup_logging

from flows.settings import FlowSettings
from flows.workspace import Workspace
from training.errors import RunError

PACKAGE = Path(__file__).parents[1]


def run_flow(flow: Callable[..., Any], workspace: Workspace, sources: list[Any], settings: FlowSettings) -> State[Any]:
    """Run `flow` into the workspace's own store; its state says what came of it.

    Raises what it raises, and RunError when Prefect ended it otherwise.
    """
    state: State[Any] = flow(workspace.root, sources, settings, return_state=True)
    if not state.is_completed():
        fault = state.result(raise_on_failure=False)
        raise fault if isinstance(fault, BaseException) else RunError(f"{state.name}: {state.message}")
    return state


def plain_log() -> None:
    """Show what the flows say, without what Prefect says of each run and task: its pages have all of it.

    Warnings are shown whoever gives them.
    """
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "WARNING")  # of worker processes too
    setup_logging()
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%H:%M:%S"))
    handler.addFilter(_is_ours)
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).addHandler(handler)


def _is_ours(record: logging.LogRecord) -> bool:
    return record.levelno < logging.WARNING and Path(record.pathname).is_relative_to(PACKAGE)
