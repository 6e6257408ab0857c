"""Which listed photos differ from what the catalogue knows."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from flows.collection.catalogue import Catalogue
from flows.collection.ingestion import Arrival
from flows.collection.sources import Listed


def arrivals(listed: Listed, catalogue: Catalogue, shard_size: int) -> Iterator[tuple[Arrival, ...]]:
    """The photos that are new or changed, in shards of `shard_size`, sorted by path.

    A photo has changed when its size, modification time or tags differ from the record, or its copy in the workspace
    is gone. A photo that was never recorded and has no tags is ignored.
    """
    changed = (arrival for path, tags in listed.tags.items() if (arrival := _arrival(path, tags, catalogue)))
    while shard := tuple(islice(changed, shard_size)):
        yield shard


def _arrival(path: str, tags: tuple[str, ...], catalogue: Catalogue) -> Arrival | None:
    entry = catalogue.entry(path)
    if entry is None:
        return Arrival(path, tags) if tags else None
    copy = entry.copy and catalogue.workspace.photos / entry.copy
    if _stamp(path) != (entry.size, entry.mtime_ns) or (copy and not copy.is_file()):
        return Arrival(path, tags)
    return Arrival(path, tags, retagged=True) if tags != entry.tags else None


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        stat = Path(path).stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns
