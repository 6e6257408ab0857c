"""What a run learned from: its own photos, and those of the run whose networks it started from.

samples.txt lists the photos, corrected.txt those whose corrections it learned from. A line for each, sorted, has the
first digits of the SHA-256 of the photo's bytes, as the bundle has them.
"""

from collections.abc import Iterable
from pathlib import Path

from tagmask import files
from tagmask.errors import RunError
from tagmask.metadata import sample_digests
from training.datasets.photos import TaggedPhotos
from training.run.layout import Layout


def record_learned(layout: Layout, data: TaggedPhotos, digests: Iterable[str], start: Path | None) -> None:
    """Write the records of a run that started from the run in the folder `start`, if any.

    `digests` are the SHA-256 hex digests of `data`, its own photos with the corrections that it learns from. Writes no
    samples.txt if `start` has none, and no corrected.txt without corrections. Raises RunError for a damaged record.
    """
    own = list(zip(data.photos, digests, strict=True))
    corrected = sample_digests(digest for photo, digest in own if photo.correction)
    corrected |= read_corrected(Layout(start)) if start else frozenset()
    if corrected:
        _write(layout.corrected, corrected)
    earlier = read_learned(Layout(start)) if start else frozenset()
    if earlier is not None:
        _write(layout.samples, earlier | sample_digests(digest for _, digest in own))


def read_learned(layout: Layout) -> frozenset[str] | None:
    """The photos that a run learned from, None if it has no record. Raises RunError if it cannot be read."""
    return _read(layout.samples)


def read_corrected(layout: Layout) -> frozenset[str]:
    """The photos whose corrections a run learned from. Raises RunError if its record cannot be read."""
    return _read(layout.corrected) or frozenset()


def _write(path: Path, digests: frozenset[str]) -> None:
    files.write_text(path, "".join(f"{each}\n" for each in sorted(digests)))


def _read(path: Path) -> frozenset[str] | None:
    try:
        return frozenset(files.read_text(path).split())
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as fault:
        raise RunError(f"{path}: damaged or not readable; train again without starting from it") from fault
