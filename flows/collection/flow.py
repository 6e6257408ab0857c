"""Collection as a flow: shards of photos are ingested as tasks, wherever the settings say."""

from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.collection.ingestion import Arrival, Outcome
from flows.collection.snapshots import Snapshot, snapshot
from flows.collection.sources import Source
from flows.collection.update import Ingest, Update, update
from flows.orchestration.crashed import mark_killed_tasks
from flows.orchestration.progress import PrefectProgress, run_logger
from flows.orchestration.tables import MAX_FAULTS, collection_artifact
from flows.orchestration.task_runners import result_of, task_runner
from flows.settings import FlowSettings
from flows.workspace import Workspace
from tagmask.cores import cores
from tagmask.inputs import Location
from tagmask.progress import Advance
from training.datasets.parallel import single_threaded


def collect(workspace: Workspace, sources: Iterable[Source | Location], settings: FlowSettings) -> Snapshot:
    """Ingest what is new at the sources, and fix the resulting version of the data set.

    Raises DataError for a missing source, RunError when the workspace cannot be written.
    """
    listed = [each if isinstance(each, Source) else Source(each) for each in sources]
    run = _collect.with_options(task_runner=task_runner(settings.tasks))
    changes: Update = run(workspace.root, listed, settings)
    version = snapshot(workspace, settings.data)
    artifact = collection_artifact(changes, version)
    artifact.publish()
    log = run_logger()[0]
    log.info("%s, data set %s", artifact.summary, version.digest[:12])
    for fault in (*changes.quarantined, *changes.skipped)[:MAX_FAULTS]:
        log.warning("fault: %s: %s", fault.where, fault.why)
    return version


@task(task_run_name="ingest", cache_policy=NO_CACHE, persist_result=False)
def ingest_task(ingest: Ingest, shard: tuple[Arrival, ...]) -> tuple[Outcome, ...]:
    """`flows.collection.ingestion.ingest` for one shard."""
    return ingest(shard)


@flow(name="collect", validate_parameters=False)
def _collect(workspace: Path, sources: list[Source], settings: FlowSettings) -> Update:
    with PrefectProgress().stage("ingesting new photos", 0) as advance:
        map_shards = partial(_map_shards, max_pending=2 * (settings.tasks.workers or cores()), advance=advance)
        return update(Workspace(workspace), sources, settings.tasks.shard_size, map_shards)


def _map_shards(
    ingest: Ingest, shards: Iterable[tuple[Arrival, ...]], *, max_pending: int, advance: Advance
) -> Iterator[tuple[Outcome, ...]]:
    """`map` by tasks, at most `max_pending` of which wait or run; a single shard needs no other process."""
    waiting = iter(shards)
    first = list(islice(waiting, 2))
    if len(first) < 2:
        for shard in first:
            only: tuple[Outcome, ...] = ingest_task(ingest, shard)
            advance(len(only))
            yield only
        return
    tasks: deque[Any] = deque()
    with single_threaded(), mark_killed_tasks():
        tasks += [ingest_task.submit(ingest, shard) for shard in (*first, *islice(waiting, max_pending - 2))]
        while tasks:
            outcomes: tuple[Outcome, ...] = result_of(tasks.popleft())
            advance(len(outcomes))
            tasks += [ingest_task.submit(ingest, shard) for shard in islice(waiting, 1)]
            yield outcomes
