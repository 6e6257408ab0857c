"""A set of samples on the disk: a folder with an empty file for each, named by the SHA-256 of its photo.

Any number of processes may read and change it. Inboxes and workspaces keep in such sets what they have forgotten: the
digest alone stays, so that the photo is recognised when it arrives again.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from tagmask.errors import NotFound
from tagmask.files import sync_folder

_ID = re.compile("[0-9a-f]{64}")


class SampleSet:
    """The samples named in `folder`, which need not exist. All methods that change it raise OSError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __contains__(self, sample: str) -> bool:
        return (self._folder / sample).is_file()

    def __iter__(self) -> Iterator[str]:
        """The samples, sorted."""
        names = (path.name for path in self._folder.iterdir()) if self._folder.is_dir() else iter(())
        return iter(sorted(name for name in names if _ID.fullmatch(name)))

    def add(self, sample: str) -> None:
        """Add a sample; on return it is on the disk."""
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / sample).touch()
        sync_folder(self._folder)
        sync_folder(self._folder.parent)

    def discard(self, sample: str) -> None:
        """Remove a sample if it is there."""
        (self._folder / sample).unlink(missing_ok=True)


def check_id(sample: str) -> str:
    """`sample` if it is the id of one: the SHA-256 of a photo in hex. Raises NotFound otherwise."""
    if not _ID.fullmatch(sample):
        raise NotFound(
            f"sample {sample[:80]!r}: not an id, which is the SHA-256 of a photo in 64 hex digits; copy it from the "
            "answer to the upload, or compute it with sha256sum",
            code="unknown_sample",
        )
    return sample
