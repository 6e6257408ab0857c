"""Updates the catalogue with what is new or changed at the sources."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from flows.collection.catalogue import Catalogue
from flows.collection.ingestion import Arrival, Outcome, ingest
from flows.collection.sources import Listed, Source, read_sources
from flows.workspace import Workspace
from tagmask.corrections import Correction
from tagmask.disk import writable
from tagmask.errors import Fault
from tagmask.files import atomic_write, remove_unfinished
from tagmask.wording import printable

Ingest = Callable[[tuple[Arrival, ...]], tuple[Outcome, ...]]

Map = Callable[[Ingest, Iterable[tuple[Arrival, ...]]], Iterable[tuple[Outcome, ...]]]
"""`map`, or a parallel equivalent; results may come in any order."""


@dataclass(frozen=True)
class Update:
    """Photos that were `added` or `retagged`, which corrections count as too, and those left out, with the reasons.

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
        for outcomes in map_shards(partial(ingest, workspace=workspace), _arrivals(listed, catalogue, shard_size)):
            catalogue.record(outcomes)
            for outcome in outcomes:
                if outcome.fault is None:
                    added += outcome.content is not None
                    retagged += outcome.content is None
                else:
                    (quarantined if outcome.content else skipped).append(Fault(printable(outcome.path), outcome.fault))
    with writable(workspace.quarantine), atomic_write(workspace.quarantine / "skipped.jsonl") as file:
        file.writelines(json.dumps(asdict(fault), ensure_ascii=False).encode() + b"\n" for fault in skipped)
    untagged = sum(not tags for tags in listed.tags.values())
    return Update(added, retagged, untagged, tuple(quarantined), tuple(skipped))


def _arrivals(listed: Listed, catalogue: Catalogue, shard_size: int) -> Iterator[tuple[Arrival, ...]]:
    """The photos that are new or changed, in shards of `shard_size`, sorted by path.

    A photo has changed when its size, modification time, tags or correction differ from the record, or its copy in the
    workspace is gone. A photo that was never recorded and has no tags is ignored.
    """
    found = (_arrival(path, tags, listed.corrections.get(path), catalogue) for path, tags in listed.tags.items())
    changed = (arrival for arrival in found if arrival)
    while shard := tuple(islice(changed, shard_size)):
        yield shard


def _arrival(path: str, tags: tuple[str, ...], correction: Correction | None, catalogue: Catalogue) -> Arrival | None:
    entry = catalogue.entry(path)
    if entry is None:
        return Arrival(path, tags, correction) if tags else None
    copy = entry.copy and catalogue.workspace.photos / entry.copy
    if _stamp(path) != (entry.size, entry.mtime_ns) or (copy and not copy.is_file()):
        return Arrival(path, tags, correction)
    known = (entry.tags, entry.correction)
    return Arrival(path, tags, correction, retagged=True) if (tags, correction) != known else None


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        stat = Path(path).stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns
