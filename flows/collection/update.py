"""Updates the catalogue with what is new or changed at the sources."""

import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice

from flows.collection.catalogue import Catalogue, Entry
from flows.collection.ingestion import Arrival, Outcome, ingest
from flows.collection.source_list import ListedPhoto, SourceList
from flows.collection.sources import Source, read_sources
from flows.workspace import Workspace
from tagmask.disk import writable
from tagmask.errors import Fault
from tagmask.files import atomic_write, remove_unfinished
from tagmask.wording import printable

Ingest = Callable[[tuple[Arrival, ...]], tuple[Outcome, ...]]

Map = Callable[[Ingest, Iterable[tuple[Arrival, ...]]], Iterable[tuple[Outcome, ...]]]
"""`map`, or a parallel equivalent; results may come in any order."""


@dataclass(frozen=True)
class Update:
    """Photos that were `added` or `retagged`, which new masks count as too, and those left out, with the reasons.

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
    added = retagged = 0
    quarantined: list[Fault] = []
    with Catalogue(workspace) as catalogue, SourceList(workspace) as source_list:
        read_sources(sources, catalogue, source_list)
        skipped, untagged = source_list.faults, source_list.untagged
        for outcomes in map_shards(partial(ingest, workspace=workspace), _arrivals(source_list, catalogue, shard_size)):
            skipped += catalogue.record(outcomes)
            for outcome in outcomes:
                if outcome.fault is None:
                    added += outcome.content is not None
                    retagged += outcome.content is None
                else:
                    (quarantined if outcome.content else skipped).append(Fault(printable(outcome.path), outcome.fault))
    with writable(workspace.quarantine), atomic_write(workspace.quarantine / "skipped.jsonl") as file:
        file.writelines(json.dumps(asdict(fault), ensure_ascii=False).encode() + b"\n" for fault in skipped)
    return Update(added, retagged, untagged, tuple(quarantined), tuple(skipped))


def _arrivals(source_list: SourceList, catalogue: Catalogue, shard_size: int) -> Iterator[tuple[Arrival, ...]]:
    """The photos that are new or changed, in shards of `shard_size`, sorted by path.

    A photo has changed when its size, modification time, tags or masks differ from the record, or its copy in the
    workspace is gone. A photo that was never recorded and has no tags is ignored.
    """
    missing = catalogue.missing()
    recorded = _recorded(source_list, catalogue)
    changed = (arrival for photo, entry in recorded if (arrival := _arrival(photo, entry, missing)))
    while shard := tuple(islice(changed, shard_size)):
        yield shard


def _recorded(source_list: SourceList, catalogue: Catalogue) -> Iterator[tuple[ListedPhoto, Entry | None]]:
    """Each listed photo and the record of its path, if any; both are sorted by path."""
    entries = catalogue.entries()
    known = next(entries, None)
    for photo in source_list:
        while known and known[0] < photo.path:
            known = next(entries, None)
        yield photo, known[1] if known and known[0] == photo.path else None


def _arrival(photo: ListedPhoto, entry: Entry | None, missing: Collection[str]) -> Arrival | None:
    if entry is None:
        return Arrival(*photo) if photo.tags else None
    if _stamp(photo.path) != entry[:2] or entry.sha in missing:
        return Arrival(*photo)
    return Arrival(*photo, retagged=True) if photo[1:] != entry[3:] else None


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        stat = os.stat(path)  # noqa: PTH116, as making a Path takes longer than the call
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns
