"""The growing data set: what sources show is taken in once, and versions of it are fixed to train on.

sources     what each source lists now: photos by path, with their tags
arrivals    which of them are new or changed
looking     each of these decoded once and copied, in any process
catalogue   what is known of all photos, and where they came from
snapshots   a version of the data set: its training list and its held-out list
lists       such a list in shards, and compared with a former one
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial

from flows.collection.arrivals import arrivals
from flows.collection.catalogue import Catalogue
from flows.collection.disk import writable
from flows.collection.looking import Arrival, Outcome, look_at
from flows.collection.sources import Source, read_sources
from flows.workspace import Workspace
from tagmask.files import atomic_write, remove_unfinished
from training.datasets.listing import shown
from training.datasets.photos import Fault

Look = Callable[[tuple[Arrival, ...]], tuple[Outcome, ...]]

Mapped = Callable[[Look, Iterable[tuple[Arrival, ...]]], Iterable[tuple[Outcome, ...]]]
"""`map`, or one that does the same in several processes; the order of what it gives does not matter."""


@dataclass(frozen=True)
class Collected:
    """What one collection did: photos `taken` in, `retagged` without being read again, and those set aside, with why.

    Quarantined photos are not looked at again until they change. `left_out` are tried again each time: photos that
    could not be read, and faults of the lists. `untagged` photos carry none of the tags asked for.
    """

    taken: int
    retagged: int
    untagged: int
    quarantined: tuple[Fault, ...]
    left_out: tuple[Fault, ...]


def collect(workspace: Workspace, sources: Iterable[Source], shard: int, mapped: Mapped = map) -> Collected:
    """Take in what is new or changed at the sources, `shard` photos at a time; nobody else may be at work in it.

    What is left out is also listed in quarantine/left-out.jsonl. Killed at any point, it goes on from the last shard
    that was recorded. Raises DataError for a source that is not there, RunError when the workspace cannot be written.
    """
    with writable(workspace.data):
        remove_unfinished(workspace.data)
    listed = read_sources(sources)
    taken = retagged = 0
    quarantined: list[Fault] = []
    left_out = list(listed.faults)
    with Catalogue(workspace) as catalogue:
        for outcomes in mapped(partial(look_at, workspace=workspace), arrivals(listed, catalogue, shard)):
            catalogue.record(outcomes)
            for outcome in outcomes:
                if outcome.why is None:
                    taken += outcome.seen is not None
                    retagged += outcome.seen is None
                else:
                    (quarantined if outcome.seen else left_out).append(Fault(shown(outcome.path), outcome.why))
    _note(workspace, left_out)
    return Collected(taken, retagged, listed.untagged, tuple(quarantined), tuple(left_out))


def _note(workspace: Workspace, faults: Iterable[Fault]) -> None:
    with writable(workspace.quarantine), atomic_write(workspace.quarantine / "left-out.jsonl") as file:
        file.writelines(json.dumps(asdict(fault), ensure_ascii=False).encode() + b"\n" for fault in faults)
