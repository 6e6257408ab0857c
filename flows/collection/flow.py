"""Collecting as a flow: photos of the sources looked at in shards, wherever the settings say."""

from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.collection import Collected, Look, collect
from flows.collection.looking import Arrival, Outcome
from flows.collection.sources import Source
from flows.orchestration.crashed import workers_may_die
from flows.orchestration.progress import PrefectProgress
from flows.orchestration.task_runners import task_runner
from flows.settings import FlowSettings
from flows.workspace import Workspace
from tagmask.cores import cores
from tagmask.progress import Advance
from training.parallel import single_threaded


@task(task_run_name="look at photos", cache_policy=NO_CACHE, persist_result=False)
def look_task(look: Look, shard: tuple[Arrival, ...]) -> tuple[Outcome, ...]:
    """`flows.collection.looking.look_at` for one shard."""
    return look(shard)


def collect_new(workspace: Workspace, sources: list[Source], settings: FlowSettings) -> Collected:
    """Take in what is new at the sources; see `flows.collection.collect`, and for what it raises."""
    collected: Collected = _collect.with_options(task_runner=task_runner(settings.work))(
        workspace.root, sources, settings
    )
    return collected


@flow(name="collect", validate_parameters=False)
def _collect(workspace: Path, sources: list[Source], settings: FlowSettings) -> Collected:
    with PrefectProgress().stage("looking at new photos", 0) as advance:
        mapped = partial(_mapped, in_work=2 * (settings.work.workers or cores()), advance=advance)
        return collect(Workspace(workspace), sources, settings.work.shard, mapped)


def _mapped(
    look: Look, shards: Iterable[tuple[Arrival, ...]], *, in_work: int, advance: Advance
) -> Iterator[tuple[Outcome, ...]]:
    """As `map`, by tasks, of which at most `in_work` wait or run at a time; a single shard needs no other process."""
    waiting = iter(shards)
    first = list(islice(waiting, 2))
    if len(first) < 2:
        for shard in first:
            only: tuple[Outcome, ...] = look_task(look, shard)
            advance(len(only))
            yield only
        return
    tasks: deque[Any] = deque()
    with single_threaded(), workers_may_die():
        tasks += [look_task.submit(look, shard) for shard in (*first, *islice(waiting, in_work - 2))]
        while tasks:
            outcomes: tuple[Outcome, ...] = tasks.popleft().result()
            advance(len(outcomes))
            tasks += [look_task.submit(look, shard) for shard in islice(waiting, 1)]
            yield outcomes
