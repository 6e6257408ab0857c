"""A flow run: alone in its workspace while it works, ended with a named state."""

from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from typing import Any

from prefect import State
from prefect.runtime import flow_run
from prefect.states import Completed

from flows.orchestration.crashed import mark_crashed_runs
from flows.orchestration.progress import run_logger
from flows.settings import FlowSettings, load_notify
from flows.workspace import Busy, Workspace
from tagmask import files
from tagmask.disk import UNWRITABLE, unwritable
from tagmask.errors import RunError
from training.datasets.parallel import killed_in


@contextmanager
def exclusive_run(workspace: Workspace, settings: FlowSettings) -> Iterator[None]:
    """Hold the workspace's lock, and clean up after runs that were killed in it.

    While another flow has the workspace, waits for it, or raises Busy if `settings.if_busy` is "skip". Raises RunError,
    with the remedy, when a worker process is killed or the disk cannot be written, in whichever process.
    """
    with _locked(workspace, wait=settings.if_busy == "wait"), _clear_errors(workspace):
        mark_crashed_runs(workspace.root, load_notify(None))
        _remove_partial_files(workspace)
        yield


def outcome(name: str, reason: str) -> State[Any]:
    """The final state of a flow: `name` is "Promoted", "Kept", "Unchanged" or "Skipped"."""
    run_logger()[0].info("%s: %s", name.lower(), reason)
    return Completed(name=name, message=reason)


@contextmanager
def _locked(workspace: Workspace, *, wait: bool) -> Iterator[None]:
    holder = f"run {flow_run.name}"
    with ExitStack() as stack:
        try:
            stack.enter_context(workspace.lock(holder, wait=False))
        except Busy as error:
            if not wait:
                raise
            run_logger()[0].info("waiting: %s", error)
            stack.enter_context(workspace.lock(holder, wait=True))
        yield


@contextmanager
def _clear_errors(workspace: Workspace) -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool as error:
        raise RunError(
            f"a worker process was killed{killed_in(error)}, probably because memory ran out; reduce tasks.workers and "
            "start again to resume"
        ) from error
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        raise unwritable(error.filename or f"workspace {workspace.root}", error) from error


def _remove_partial_files(workspace: Workspace) -> None:
    """Remove what killed processes left half-written; the store and data/ do so themselves.

    Stages hold several files per photo, so they are only searched when a training was interrupted.
    """
    for path in files.unfinished(workspace.root):
        path.unlink(missing_ok=True)
    if workspace.training.is_file():
        for folder in (workspace.stages, workspace.runs, workspace.networks):
            files.remove_unfinished(folder)
