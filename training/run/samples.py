"""samples.txt, the photos that a run learned from: its own, and those of the run whose networks it started from.

A line for each, sorted, has the first digits of the SHA-256 of the photo's bytes, as the bundle has them.
"""

from collections.abc import Iterable
from pathlib import Path

from tagmask import files
from tagmask.bundle import sample_digests
from tagmask.errors import RunError
from training.run.layout import Layout


def record_samples(layout: Layout, digests: Iterable[str], start: Path | None) -> None:
    """Write the record of a run that started from the run in the folder `start`, if any.

    `digests` are the SHA-256 hex digests of its own photos. Writes nothing if `start` has no record. Raises RunError
    for a damaged record.
    """
    earlier = read_samples(Layout(start)) if start else frozenset()
    if earlier is not None:
        files.write_text(layout.samples, "".join(f"{each}\n" for each in sorted(earlier | sample_digests(digests))))


def read_samples(layout: Layout) -> frozenset[str] | None:
    """The record of a run, None if it has none. Raises RunError if it cannot be read."""
    try:
        return frozenset(files.read_text(layout.samples).split())
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as fault:
        raise RunError(f"{layout.samples}: damaged or not readable; train again without starting from it") from fault
