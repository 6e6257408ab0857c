"""Which bundles of a store learned from a sample."""

from collections.abc import Iterable
from dataclasses import dataclass

from tagmask.bundle import read_samples
from tagmask.errors import BundleError
from tagmask.metadata import sample_digests
from tagmask.store import Store


@dataclass(frozen=True)
class Learners:
    """The versions that learned from any of the samples in question, and those whose samples are not known.

    Those are bundles of versions of Tagmask that did not record them, and damaged ones.
    """

    models: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


def find_learners(store: Store, samples: Iterable[str]) -> Learners:
    """The learners of `samples`, by id, in `store`, oldest publication first; all bundles are read."""
    wanted = sample_digests(samples)
    learned = {version: _samples(store, version) for version in store.versions()}
    return Learners(
        models=tuple(version for version, digests in learned.items() if digests and wanted & digests),
        unknown=tuple(version for version, digests in learned.items() if digests is None),
    )


def _samples(store: Store, version: str) -> frozenset[str] | None:
    try:
        return read_samples(store.path(version))
    except BundleError:
        return None
