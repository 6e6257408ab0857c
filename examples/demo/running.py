"""A flow run from a program."""

from collections.abc import Callable
from typing import Any

from prefect import State

from flows.settings import FlowSettings
from flows.workspace import Workspace
from tagmask.errors import RunError


def run_flow(flow: Callable[..., Any], workspace: Workspace, sources: list[Any], settings: FlowSettings) -> State[Any]:
    """Run `flow` into the workspace's own store; its state says what came of it.

    Raises what it raises, and RunError when Prefect ended it otherwise.
    """
    state: State[Any] = flow(workspace.root, sources, settings, return_state=True)
    if not state.is_completed():
        fault = state.result(raise_on_failure=False)
        raise fault if isinstance(fault, BaseException) else RunError(f"{state.name}: {state.message}")
    return state
