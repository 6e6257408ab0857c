"""Updates the catalogue with what is new or changed at the sources."""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial

from flows.collection.arrivals import arrivals
from flows.collection.catalogue import Catalogue
from flows.collection.ingestion import Arrival, Outcome, ingest
from flows.collection.sources import Source, read_sources
from flows.disk import writable
from flows.workspace import Workspace
from tagmask.files import atomic_write, remove_unfinished
from tagmask.wording import printable
from training.datasets.photos import Fault

Ingest = Callable[[tuple[Arrival, ...]], tuple[Outcome, ...]]

Map = Callable[[Ingest, Iterable[tuple[Arrival, ...]]], Iterable[tuple[Outcome, ...]]]
"""`map`, or a parallel equivalent; results may come in any order."""


@dataclass(frozen=True)
class Update:
    """Photos that were `added` or `retagged`, and those left out, with the reasons.

    `quarantined` photos are not read again until they change. `skipped` ones, which could not be read, and faults in
    the lists are retried each time. `untagged` photos have none of the requested tags.
    """

    added: int
    retagged: int
    untagged: int
    quarantined: tuple[Fault, ...]
    skipped: tuple[Fault, ...]


def update(workspace: Workspace, sources: Iterable[Source], shard_size: int, map_shards: Map = map) -> Update:
    """Ingest what is new or changed at the sources, in shards of `shard_size` photos; no one else may be doing so.

    What is skipped is also listed in quarantine/skipped.jsonl. After a kill, the next call resumes after the last
    recorded shard. Raises DataError for a missing source, RunError when the workspace cannot be written.
    """
    with writable(workspace.data):
        remove_unfinished(workspace.data)
    listed = read_sources(sources)
    added = retagged = 0
    quarantined: list[Fault] = []
    skipped = list(listed.faults)
    with Catalogue(workspace) as catalogue:
        for outcomes in map_shards(partial(ingest, workspace=workspace), arrivals(listed, catalogue, shard_size)):
            catalogue.record(outcomes)
            for outcome in outcomes:
                if outcome.fault is None:
                    added += outcome.content is not None
                    retagged += outcome.content is None
                else:
                    (quarantined if outcome.content else skipped).append(Fault(printable(outcome.path), outcome.fault))
    with writable(workspace.quarantine), atomic_write(workspace.quarantine / "skipped.jsonl") as file:
        file.writelines(json.dumps(asdict(fault), ensure_ascii=False).encode() + b"\n" for fault in skipped)
    return Update(added, retagged, listed.untagged, tuple(quarantined), tuple(skipped))
