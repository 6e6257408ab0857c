"""Runs a flow from a program."""

from collections.abc import Callable
from typing import Any

from prefect import State

from flows.settings import FlowSettings
from flows.workspace import Workspace
from tagmask.errors import RunError
from tagmask.inputs import absolute_location


def run_flow(flow: Callable[..., Any], workspace: Workspace, sources: list[Any], settings: FlowSettings) -> State[Any]:
    """Run `flow` with the workspace's store, and return its final state.

    Raises the flow's exception, or RunError when Prefect ended it for another reason.
    """
    store = absolute_location(workspace.store)
    state: State[Any] = flow(workspace.root, sources, settings, store, return_state=True)
    if not state.is_completed():
        error = state.result(raise_on_failure=False)
        raise error if isinstance(error, BaseException) else RunError(f"{state.name}: {state.message}")
    return state
