"""The task runner for shards of photos, chosen by the settings, and the wait for them."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from queue import Empty, SimpleQueue
from typing import Any, Self

from prefect.context import FlowRunContext
from prefect.futures import PrefectFuture
from prefect.settings import (
    PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED,
    get_current_settings,
    temporary_settings,
)
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from flows.settings import TaskSettings
from tagmask.cores import cores
from tagmask.errors import ConfigError, RunError
from training.datasets.parallel import start_worker

LOOK_S = 5.0
"""Seconds between checks that the processes that run tasks are alive."""


def task_runner(settings: TaskSettings) -> TaskRunner[Any]:
    """The task runner named by the settings. Without an address, a cluster is started for the flow and ends with it.

    Raises ConfigError when the package for Dask or Ray is not installed.
    """
    workers = settings.workers or cores()
    match settings.runner:
        case "inline":
            return ThreadPoolTaskRunner(max_workers=1)
        case "processes":
            return Processes(max_workers=workers, initializer=start_worker)
        case "dask":
            return _dask(settings.address, workers)
        case "ray":
            return _ray(settings.address, workers)


def _dask(address: str | None, workers: int) -> TaskRunner[Any]:
    try:
        from prefect_dask import DaskTaskRunner
    except ImportError as error:
        raise ConfigError("tasks.runner: dask requires an extra; pip install 'tagmask[dask]'") from error
    if address:
        return DaskTaskRunner(address=address)
    # No dashboard: it would need a port.
    cluster = {"n_workers": workers, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    return DaskTaskRunner(cluster_kwargs=cluster)


def _ray(address: str | None, workers: int) -> TaskRunner[Any]:
    try:
        from prefect_ray import RayTaskRunner
    except ImportError as error:
        raise ConfigError("tasks.runner: ray requires an extra; pip install 'tagmask[ray]'") from error
    return RayTaskRunner(address=address, init_kwargs={} if address else {"num_cpus": workers})


class Processes(ProcessPoolTaskRunner):
    """Prefect's pool of processes, for times when its server goes away while they start.

    A process that finds no server ends its task with SystemExit. Handed on to the flow's process, that would end the
    thread there which serves the pool, and every task would be waited for forever.
    """

    def __enter__(self) -> Self:
        super().__enter__()
        executor = self._executor
        assert executor is not None
        submit = executor.submit
        executor.submit = lambda call: submit(partial(contained, call))  # type: ignore[method-assign,assignment,arg-type]
        return self

    def serves(self) -> bool:
        """Whether results of its processes still arrive."""
        thread = getattr(self._executor, "_executor_manager_thread", None)
        return thread is None or thread.is_alive()

    def __exit__(self, *error: Any) -> None:
        if not self.serves():  # nobody would tell them to end, and this process would wait for them
            for process in list((getattr(self._executor, "_processes", None) or {}).values()):
                process.terminate()
                process.join(LOOK_S)
        super().__exit__(*error)


class NotStartedError(RunError):
    """A task was not started, as its process found no Prefect server."""


def contained(call: Callable[[], bytes]) -> bytes:
    """`call()`, again after a while where Prefect's engine gave up. Raises NotStartedError if it always does."""
    while True:
        try:
            return call()
        except SystemExit as fault:
            seconds = next(_waits(), None)
            if seconds is None:
                raise NotStartedError(
                    f"a task could not start after {get_current_settings().client.max_retries} retries "
                    f"(PREFECT_CLIENT_MAX_RETRIES): {fault.__context__}; see that Prefect's server runs, and start "
                    "again to resume"
                ) from fault
            time.sleep(seconds)


@cache
def _waits() -> Iterator[int]:
    """Seconds before each retry of this process, as Prefect's client waits once it has found a server."""
    return iter([2**retry for retry in range(1, get_current_settings().client.max_retries + 1)])


@contextmanager
def server_known() -> Iterator[None]:
    """Let tasks that are submitted in the context start without asking for the version of Prefect's server.

    This process has asked. A new process of a cluster would do so once more, and its task fail if the server was being
    started again at that moment, as Prefect's client does not repeat the first request of a process.
    """
    with temporary_settings({PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED: False}):
        yield


def as_completed(futures: Sequence[PrefectFuture[Any]]) -> Iterator[PrefectFuture[Any]]:
    """Each of `futures` once it is done. Raises RunError if they cannot end, as what runs them is gone."""
    done: SimpleQueue[PrefectFuture[Any]] = SimpleQueue()
    for future in futures:
        future.add_done_callback(done.put)
    left = len(futures)
    while left:
        try:
            future = done.get(timeout=LOOK_S)
        except Empty:
            _look()
            continue
        if _is_cancelled(future):
            raise RunError("the connection to Dask's scheduler was lost; see that it runs, and start again to resume")
        yield future
        left -= 1


def result_of(future: PrefectFuture[Any]) -> Any:
    """The result of `future`, once it is done. Raises what its task raises, and RunError as `as_completed` does."""
    (done,) = as_completed([future])
    return done.result()


def _is_cancelled(future: PrefectFuture[Any]) -> bool:
    """Whether `future` is one of Dask's without a result; only the loss of the scheduler cancels them."""
    return getattr(getattr(future, "wrapped_future", None), "status", None) == "cancelled"


def _look() -> None:
    context = FlowRunContext.get()
    if context and isinstance(context.task_runner, Processes) and not context.task_runner.serves():
        raise RunError("the results of worker processes no longer arrive; start again to resume")
