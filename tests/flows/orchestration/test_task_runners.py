import multiprocessing
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from types import SimpleNamespace
from uuid import uuid4

import pytest
from prefect.context import FlowRunContext
from prefect.futures import PrefectConcurrentFuture
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from flows.orchestration import task_runners
from flows.orchestration.progress import advance_as_completed
from flows.orchestration.task_runners import NotStartedError, Processes, as_completed, contained, result_of
from flows.settings import TaskSettings
from tagmask.errors import RunError


def gives_up(times: int) -> "partial[bytes]":
    """A call that Prefect's engine ends `times` times, as it does without a server."""
    return partial(_gives_up, iter(range(times)))


def _gives_up(left: Iterator[int]) -> bytes:
    if next(left, None) is None:
        return b"done"
    try:
        raise RuntimeError("Failed to reach API at http://127.0.0.1:4200/api/")
    except RuntimeError:
        sys.exit(1)


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    seconds: list[float] = []
    task_runners._waits.cache_clear()
    monkeypatch.setattr(time, "sleep", seconds.append)
    return seconds


def test_the_first_contact_of_a_process_is_retried_as_later_ones_are(waited: list[float]):
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 3}):
        assert contained(gives_up(3)) == b"done"
        assert waited == [2, 4, 8]
        with pytest.raises(NotStartedError, match=r"after 3 retries .*Failed to reach API at http.*resume"):
            contained(gives_up(1))
    assert waited == [2, 4, 8], "a process that has waited once does not do so for each of its tasks"


def test_a_task_that_could_not_start_ends_and_the_pool_goes_on(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PREFECT_CLIENT_MAX_RETRIES", "0")
    with task_runners.task_runner(TaskSettings(runner="processes", workers=1)) as runner:
        assert isinstance(runner, Processes)
        assert isinstance(runner._executor, ProcessPoolExecutor)
        failed = runner._executor.submit(partial(sys.exit, 1))
        assert isinstance(failed.exception(timeout=120), NotStartedError)
        assert runner._executor.submit(partial(bytes, 3)).result(timeout=120) == b"\0\0\0"
        assert runner.serves()


def test_one_shard_that_could_not_start_is_the_end_of_the_stage():
    futures: list[Future[object]] = [Future(), Future()]
    futures[0].set_exception(NotStartedError("no server"))
    with pytest.raises(NotStartedError):
        advance_as_completed([PrefectConcurrentFuture(uuid4(), each) for each in futures], [1, 1], print)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_tasks_of_a_pool_that_no_longer_serves_are_not_waited_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(task_runners, "LOOK_S", 0.2)
    before = set(multiprocessing.active_children())
    with Processes(max_workers=1) as runner:
        monkeypatch.setattr(FlowRunContext, "get", lambda: SimpleNamespace(task_runner=runner))
        executor = runner._executor
        assert executor is not None
        ended = ProcessPoolExecutor.submit(executor, sys.exit)
        ended.add_done_callback(Future.result)  # in the thread that serves the pool
        lost = PrefectConcurrentFuture(uuid4(), Future())
        for wait in (result_of, lambda future: list(as_completed([future]))):
            with pytest.raises(RunError, match="no longer arrive; start again to resume"):
                wait(lost)
        assert not runner.serves()
    assert set(multiprocessing.active_children()) == before


def test_results_come_as_tasks_end():
    futures: list[Future[str]] = [Future(), Future()]
    futures[1].set_result("second")
    waited = as_completed([PrefectConcurrentFuture(uuid4(), each) for each in futures])
    assert next(waited).result() == "second"
    futures[0].set_result("first")
    assert [each.result() for each in waited] == ["first"]
