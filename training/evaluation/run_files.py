"""The files that the stages of a run wrote for a photo, as they are read after it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tagmask.errors import RunError
from training.datasets.photos import Photo

DAMAGED = (OSError, EOFError, ValueError, IndexError)
"""Raised for a file that is missing, damaged, or does not fit the others."""


@contextmanager
def run_files(run: Path, photo: Photo) -> Iterator[None]:
    """Raise RunError, naming the `photo`, if a file that is read in the context is missing or damaged."""
    try:
        yield
    except DAMAGED as fault:
        raise RunError(f"{run}: files of photo {photo.id} are missing or damaged; train again") from fault
