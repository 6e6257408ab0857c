"""What is known of every photo ever taken in, and of where it came from: WORKSPACE/data/catalogue.sqlite.

A photo is its bytes. An entry is a path of a source, with the tags that it has there; the tags of a photo are those of
all entries that lead to it. An entry is replaced when its source says otherwise. It stays when its file is gone, until
the photo is found elsewhere: moved to another class's folder, it is of that class.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Self

from flows.collection.disk import writable
from flows.collection.looking import Outcome
from flows.workspace import Workspace
from tagmask.errors import RunError

SCHEMA = 1
"""Version of the tables, in `PRAGMA user_version`."""

_TABLES = (
    """CREATE TABLE photos (
        sha TEXT PRIMARY KEY, suffix TEXT NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL,
        added TEXT NOT NULL, quarantined TEXT
    ) WITHOUT ROWID""",
    """CREATE TABLE entries (
        path TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
        sha TEXT NOT NULL REFERENCES photos, tags TEXT NOT NULL
    ) WITHOUT ROWID""",
    "CREATE INDEX entries_by_sha ON entries (sha)",
)
"""`quarantined` says why, and is NULL for photos that are kept; `tags` is a JSON list."""

_PHOTO = """INSERT INTO photos VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (sha) DO UPDATE SET
    suffix = excluded.suffix, width = excluded.width, height = excluded.height, quarantined = NULL
    WHERE quarantined IS NOT NULL AND excluded.quarantined IS NULL"""

_ENTRY = """INSERT INTO entries VALUES (?, ?, ?, ?, ?) ON CONFLICT (path) DO UPDATE SET
    size = excluded.size, mtime_ns = excluded.mtime_ns, sha = excluded.sha, tags = excluded.tags"""


@dataclass(frozen=True)
class Entry:
    """What was recorded of a path: `size` in bytes, `tags`, and the `copy` below photos/, None if quarantined."""

    size: int
    mtime_ns: int
    tags: tuple[str, ...]
    copy: str | None


@dataclass(frozen=True)
class Counts:
    """Photos kept and quarantined, and entries that lead to them."""

    kept: int
    quarantined: int
    entries: int


class Catalogue:
    """The catalogue of a workspace, made when it is not there. For one writer at a time; close it, or use `with`.

    Raises RunError, naming the file and the remedy, when it cannot be read or written, or is of a newer Tagmask.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._path = workspace.data / "catalogue.sqlite"
        with writable(workspace.data):
            workspace.data.mkdir(parents=True, exist_ok=True)
        with self._clear():
            self._database = sqlite3.connect(self._path, timeout=60, isolation_level=None)
            try:
                self._prepare()
            except BaseException:
                self._database.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def entry(self, path: str) -> Entry | None:
        """What was recorded of `path`."""
        with self._clear():
            row = self._database.execute(
                "SELECT size, mtime_ns, tags, sha, suffix, quarantined FROM entries JOIN photos USING (sha) "
                "WHERE path = ?",
                (path,),
            ).fetchone()
        if row is None:
            return None
        size, mtime_ns, tags, sha, suffix, quarantined = row
        return Entry(size, mtime_ns, tuple(json.loads(tags)), None if quarantined else _copy(sha, suffix))

    def record(self, outcomes: Iterable[Outcome]) -> None:
        """Record all outcomes or, when this is killed, none. Recording them again changes nothing."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with self._transaction() as database:
            for outcome in outcomes:
                tags, seen = json.dumps(outcome.tags, ensure_ascii=False), outcome.seen
                if seen:
                    photo = (seen.sha, seen.suffix, seen.width, seen.height, now, outcome.why)
                    database.execute(_PHOTO, photo)
                    database.execute(_ENTRY, (outcome.path, seen.size, seen.mtime_ns, seen.sha, tags))
                    _forget_moved(database, seen.sha, outcome.path)
                elif outcome.why is None:
                    database.execute("UPDATE entries SET tags = ? WHERE path = ?", (tags, outcome.path))

    def tagged(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Path below photos/ ("aa/<sha256>.jpg") and sorted tags of each photo that is kept, in order of SHA-256."""
        query = (
            "SELECT sha, suffix, tags FROM photos JOIN entries USING (sha) "
            "WHERE quarantined IS NULL ORDER BY photos.sha"
        )
        with self._clear():
            rows = self._database.execute(query)
            for (sha, suffix), group in groupby(rows, itemgetter(0, 1)):
                yield _copy(sha, suffix), tuple(sorted({tag for *_, tags in group for tag in json.loads(tags)}))

    def counts(self) -> Counts:
        """How much is known."""
        query = (
            "SELECT (SELECT count(*) FROM photos WHERE quarantined IS NULL), "
            "(SELECT count(*) FROM photos WHERE quarantined IS NOT NULL), (SELECT count(*) FROM entries)"
        )
        with self._clear():
            return Counts(*self._database.execute(query).fetchone())

    def _prepare(self) -> None:
        if self._version() == 0:
            with self._transaction() as database:
                if self._version() == 0:  # nobody else was faster
                    for table in _TABLES:
                        database.execute(table)
                    database.execute(f"PRAGMA user_version = {SCHEMA}")
        if (version := self._version()) != SCHEMA:
            raise RunError(
                f"{self._path}: its tables are of version {version}, only {SCHEMA} is known here; "
                "use the newer Tagmask that wrote it, or another workspace"
            )

    def _version(self) -> int:
        return int(self._database.execute("PRAGMA user_version").fetchone()[0])

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._clear():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:  # a full disk has ended it already
                    self._database.execute("ROLLBACK")
                raise

    @contextmanager
    def _clear(self) -> Iterator[None]:
        """Say in words what SQLite says."""
        try:
            yield
        except sqlite3.Error as fault:
            match getattr(fault, "sqlite_errorcode", 0) & 0xFF:
                case sqlite3.SQLITE_FULL | sqlite3.SQLITE_IOERR:
                    remedy = "make room on its disk and start again"
                case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
                    remedy = (
                        "move it away and start again: sources are read anew, and what they no longer have "
                        "comes back when the newest list beside it, a .jsonl, is named as a source"
                    )
                case sqlite3.SQLITE_BUSY:
                    remedy = "another process has been writing for a minute; wait for it to end"
                case _:
                    remedy = "let this process read and write it"
            raise RunError(f"{self._path}: {fault}; {remedy}") from fault


def _forget_moved(database: sqlite3.Connection, sha: str, found: str) -> None:
    others = database.execute("SELECT path FROM entries WHERE sha = ? AND path != ?", (sha, found)).fetchall()
    moved = [(path,) for (path,) in others if not Path(path).is_file()]
    database.executemany("DELETE FROM entries WHERE path = ?", moved)


def _copy(sha: str, suffix: str) -> str:
    return f"{sha[:2]}/{sha}{suffix}"
