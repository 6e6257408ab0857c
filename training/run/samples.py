"""samples.txt, the photos that a run learned from: its own, and those of the run whose networks it started from.

A line for each, sorted, has the first digits of the SHA-256 of the photo's bytes, as the bundle has them.
"""

import hashlib
from pathlib import Path

from tagmask import files
from tagmask.bundle import sample_digests
from tagmask.errors import RunError
from training.datasets.photos import TaggedPhotos
from training.run.layout import Layout


def record_samples(layout: Layout, data: TaggedPhotos, start: Path | None) -> frozenset[str] | None:
    """Write the record of a run on `data` that started from the run in the folder `start`, if any; returns the digests.

    Returns None, and writes nothing, if `start` has no record. Raises OSError for a photo that cannot be read, and
    RunError for a damaged record.
    """
    earlier = read_samples(Layout(start)) if start else frozenset()
    if earlier is None:
        return None
    own = sample_digests(hashlib.sha256(files.read_bytes(photo.path)).hexdigest() for photo in data.photos)
    digests = earlier | own
    files.write_text(layout.samples, "".join(f"{each}\n" for each in sorted(digests)))
    return digests


def read_samples(layout: Layout) -> frozenset[str] | None:
    """The record of a run, None if it has none. Raises RunError if it cannot be read."""
    try:
        return frozenset(files.read_text(layout.samples).split())
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as fault:
        raise RunError(f"{layout.samples}: damaged or not readable; train again without starting from it") from fault
