"""The photos that the sources list now, with tags and masks, in a file that exists only during an update."""

import sqlite3
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Self

from flows.collection.database import clear_errors, pack_mask, pack_tags, unpack_mask, unpack_tags
from flows.workspace import Workspace
from tagmask.classes import merge_tags
from tagmask.corrections import Correction
from tagmask.disk import writable
from tagmask.errors import Fault


class ListedPhoto(NamedTuple):
    """A photo at an absolute path, with its tags, and its correction and its hint, if it has them.

    One with none of the requested tags has an empty tuple, as it may have had some before; one that shows nothing has
    the tag "background" alone.
    """

    path: str
    tags: tuple[str, ...]
    correction: Correction | None = None
    hint: Correction | None = None


class SourceList:
    """The photos that the sources list, sorted by path, and the `faults` of lists; a context manager.

    Raises RunError when the file cannot be written.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.faults: list[Fault] = []
        self._path = workspace.data / ".source-list.part"
        with writable(workspace.data):
            workspace.data.mkdir(parents=True, exist_ok=True)
            self._path.unlink(missing_ok=True)
        with clear_errors(self._path):
            self._database = sqlite3.connect(self._path, isolation_level=None)
            self._database.create_function("merged", 2, _merged, deterministic=True)
            for statement in (
                "PRAGMA journal_mode = OFF",  # nobody reads the file again
                "PRAGMA synchronous = OFF",
                "CREATE TABLE photos (path TEXT PRIMARY KEY, tags TEXT NOT NULL, correction TEXT, hint TEXT) "
                "WITHOUT ROWID",
                "BEGIN",
            ):
                self._database.execute(statement)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()
        self._path.unlink(missing_ok=True)

    def add(self, photos: Iterable[ListedPhoto]) -> None:
        """Add photos; one that was added before has the tags of both, and the last correction and hint."""
        with clear_errors(self._path):
            self._database.executemany(
                "INSERT INTO photos VALUES (?, ?, ?, ?) ON CONFLICT (path) DO UPDATE SET "
                "tags = merged(tags, excluded.tags), correction = coalesce(excluded.correction, correction), "
                "hint = coalesce(excluded.hint, hint)",
                ((path, pack_tags(tags), *map(pack_mask, masks)) for path, tags, *masks in photos),
            )

    def __iter__(self) -> Iterator[ListedPhoto]:
        """The photos, sorted by path."""
        query = "SELECT path, tags, correction, hint FROM photos ORDER BY path"
        with clear_errors(self._path):
            for path, tags, *masks in self._database.execute(query):
                yield ListedPhoto(path, unpack_tags(tags), *map(unpack_mask, masks))

    @property
    def untagged(self) -> int:
        """The number of photos with none of the requested tags."""
        query = "SELECT count(*) FROM photos WHERE tags = ?"
        with clear_errors(self._path):
            return int(self._database.execute(query, (pack_tags(()),)).fetchone()[0])


def _merged(tags: str, others: str) -> str:
    return pack_tags(merge_tags(unpack_tags(tags), unpack_tags(others)))
