"""The database of all photos ever ingested, and of their origins: WORKSPACE/data/catalogue.sqlite.

A photo is identified by its bytes. An entry is a path in a source, with its tags and masks in that source; a photo has
the tags of all its entries, and the correction and the hint of the first that has one. An entry is updated with its
source. It stays when its file is gone, until the photo appears at another path: a photo that is moved to another
class's folder changes its class.
"""

import json
import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple, Self

from flows.collection.database import clear_errors, pack_mask, pack_tags, unpack_mask, unpack_tags
from flows.collection.ingestion import Outcome
from flows.workspace import Workspace
from tagmask.classes import class_key, merge_tags
from tagmask.corrections import Correction
from tagmask.disk import writable
from tagmask.errors import Fault, RunError
from tagmask.wording import printable
from training.datasets.samples import SampleDescription

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
"""`quarantined` is the reason, or NULL for usable photos; `tags` is a JSON list."""

_MASKS = tuple(
    f"""CREATE TABLE IF NOT EXISTS {noun}s (
        path TEXT PRIMARY KEY REFERENCES entries ON DELETE CASCADE, {noun} TEXT NOT NULL
    ) WITHOUT ROWID"""
    for noun in ("correction", "hint")
)
"""`correction` and `hint` are the JSON of a Correction."""

_DESCRIPTIONS = """CREATE TABLE IF NOT EXISTS descriptions (
    folder TEXT NOT NULL, name TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    suffix TEXT NOT NULL, tags TEXT NOT NULL,
    correction_size INTEGER, correction_mtime_ns INTEGER, correction TEXT, PRIMARY KEY (folder, name)
) WITHOUT ROWID"""
"""What the JSON of each sample of an inbox says, and its correction, if any.

These tables are apart from the others, as catalogues of earlier versions lack them; these versions ignore them.
"""

_PHOTO = """INSERT INTO photos VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (sha) DO UPDATE SET
    suffix = excluded.suffix, width = excluded.width, height = excluded.height, quarantined = NULL
    WHERE quarantined IS NOT NULL AND excluded.quarantined IS NULL"""

_ENTRY = """INSERT INTO entries VALUES (?, ?, ?, ?, ?) ON CONFLICT (path) DO UPDATE SET
    size = excluded.size, mtime_ns = excluded.mtime_ns, sha = excluded.sha, tags = excluded.tags"""


class Entry(NamedTuple):
    """The record of a path: `size` in bytes, SHA-256 in hex, tags, and its correction and hint, if any."""

    size: int
    mtime_ns: int
    sha: str
    tags: tuple[str, ...]
    correction: Correction | None
    hint: Correction | None


class TaggedPhoto(NamedTuple):
    """A usable photo: its path below photos/ ("aa/<sha256>.jpg"), its sorted tags, and its correction and hint, if any.

    The tag "background", always alone, says that the photo shows nothing.
    """

    copy: str
    tags: tuple[str, ...]
    correction: Correction | None
    hint: Correction | None


class Catalogue:
    """The catalogue of a workspace, created if missing; a context manager, for one writer at a time.

    Raises RunError when it cannot be read or written, or was written by a newer Tagmask.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._path = workspace.data / "catalogue.sqlite"
        with writable(workspace.data):
            workspace.data.mkdir(parents=True, exist_ok=True)
        with clear_errors(self._path):
            self._database = sqlite3.connect(self._path, timeout=60, isolation_level=None)
            try:
                self._database.execute("PRAGMA secure_delete = ON")  # as photos can be forgotten
                self._prepare()
            except BaseException:
                self._database.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def entries(self) -> Iterator[tuple[str, Entry]]:
        """Each path ever ingested with its record, sorted by path; records that are made meanwhile may be missing."""
        query = (
            "SELECT path, size, mtime_ns, sha, tags, correction, hint "
            "FROM entries LEFT JOIN corrections USING (path) LEFT JOIN hints USING (path) ORDER BY path"
        )
        with clear_errors(self._path):
            for path, size, mtime_ns, sha, tags, *masks in self._database.execute(query):
                yield path, Entry(size, mtime_ns, sha, unpack_tags(tags), *map(unpack_mask, masks))

    def missing(self) -> frozenset[str]:
        """SHA-256 of each usable photo whose copy is gone; each folder is listed once, one in memory at a time."""
        query = "SELECT substr(sha, 1, 2), sha, suffix FROM photos WHERE quarantined IS NULL ORDER BY sha"
        missing: set[str] = set()
        with clear_errors(self._path):
            for folder, photos in groupby(self._database.execute(query), itemgetter(0)):
                copies = _names(self.workspace.photos / folder)
                missing.update(sha for _, sha, suffix in photos if f"{sha}{suffix}" not in copies)
        return frozenset(missing)

    def record(self, outcomes: Iterable[Outcome]) -> list[Fault]:
        """Record the outcomes in one transaction; idempotent. Returns the masks that do not fit their photos."""
        now, faults = datetime.now(UTC).isoformat(timespec="seconds"), list[Fault]()
        with self._transaction() as database:
            for outcome in outcomes:
                tags, content = pack_tags(outcome.tags), outcome.content
                if content:
                    photo = (content.sha, content.suffix, content.width, content.height, now, outcome.fault)
                    database.execute(_PHOTO, photo)
                    database.execute(_ENTRY, (outcome.path, content.size, content.mtime_ns, content.sha, tags))
                    _forget_moved(database, content.sha, outcome.path)
                elif outcome.fault is None:
                    database.execute("UPDATE entries SET tags = ? WHERE path = ?", (tags, outcome.path))
                else:
                    continue
                for noun, mask in {"correction": outcome.correction, "hint": outcome.hint}.items():
                    if fault := _record_mask(database, outcome.path, noun, mask):
                        faults.append(Fault(printable(outcome.path), f"its {noun} is ignored, as {fault}"))
        return faults

    def descriptions(self, folder: Path) -> dict[str, SampleDescription]:
        """What is known of the samples in a folder of an inbox, by name."""
        query = (
            "SELECT name, size, mtime_ns, suffix, tags, correction_size, correction_mtime_ns, correction "
            "FROM descriptions WHERE folder = ?"
        )
        with clear_errors(self._path):
            return {name: _description(*row) for name, *row in self._database.execute(query, (str(folder),))}

    def describe(
        self, folder: Path, known: Mapping[str, SampleDescription], found: Mapping[str, SampleDescription]
    ) -> None:
        """Record what the samples in a folder of an inbox are, in place of what was `known`, in one transaction."""
        place = str(folder)
        changed = ((name, each) for name, each in found.items() if each != known.get(name))
        with self._transaction() as database:
            gone = ((place, name) for name in known.keys() - found.keys())
            database.executemany("DELETE FROM descriptions WHERE folder = ? AND name = ?", gone)
            rows = ((place, name, *_row(each)) for name, each in changed)
            database.executemany("INSERT OR REPLACE INTO descriptions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def has(self, sha: str) -> bool:
        """Whether there is a photo of this SHA-256, usable or not."""
        with clear_errors(self._path):
            return self._database.execute("SELECT 1 FROM photos WHERE sha = ?", (sha,)).fetchone() is not None

    def forget(self, shas: Collection[str]) -> None:
        """Remove photos and their entries, in one transaction; what was on the disk is overwritten."""
        with self._transaction() as database:
            for table in ("entries", "photos"):
                database.executemany(f"DELETE FROM {table} WHERE sha = ?", [(sha,) for sha in shas])
            named = "SELECT value FROM json_each(?)"
            database.execute(f"DELETE FROM descriptions WHERE name IN ({named})", (json.dumps(list(shas)),))

    def tagged(self) -> Iterator[TaggedPhoto]:
        """The usable photos, sorted by SHA-256.

        A class that the sources spell in several ways is spelled as in its earliest photo, so that its name stays.
        """
        spellings = self._spellings()
        query = (
            "SELECT sha, suffix, tags, correction, hint FROM photos JOIN entries USING (sha) "
            "LEFT JOIN corrections USING (path) LEFT JOIN hints USING (path) "
            "WHERE quarantined IS NULL ORDER BY photos.sha, path"
        )
        with clear_errors(self._path):
            rows = self._database.execute(query)
            for (sha, suffix), group in groupby(rows, itemgetter(0, 1)):
                lists, *masks = zip(*(row[2:] for row in group), strict=True)
                tags = merge_tags(spellings[tag] for each in lists for tag in unpack_tags(each))
                first = (unpack_mask(next(filter(None, each), None)) for each in masks)
                yield TaggedPhoto(_copy(sha, suffix), tags, *first)

    def _spellings(self) -> dict[str, str]:
        """The name of the class of each tag."""
        query = (
            "SELECT value, MIN(added) FROM photos JOIN entries USING (sha), json_each(tags) "
            "WHERE quarantined IS NULL GROUP BY value ORDER BY 2, 1"
        )
        with clear_errors(self._path):
            tags = [tag for tag, _ in self._database.execute(query)]
        first: dict[str, str] = {}
        return {tag: first.setdefault(class_key(tag), tag) for tag in tags}

    def _prepare(self) -> None:
        if self._version() == 0:
            with self._transaction() as database:
                if self._version() == 0:  # no other process was faster
                    for table in _TABLES:
                        database.execute(table)
                    database.execute(f"PRAGMA user_version = {SCHEMA}")
        if (version := self._version()) != SCHEMA:
            raise RunError(
                f"{self._path}: schema version {version}, this Tagmask reads only version {SCHEMA}; "
                "upgrade Tagmask, or use another workspace"
            )
        self._database.execute("PRAGMA foreign_keys = ON")
        for table in (*_MASKS, _DESCRIPTIONS):
            self._database.execute(table)

    def _version(self) -> int:
        return int(self._database.execute("PRAGMA user_version").fetchone()[0])

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with clear_errors(self._path), self._database as database:  # which commits, or rolls back
            database.execute("BEGIN IMMEDIATE")
            yield database


def _forget_moved(database: sqlite3.Connection, sha: str, path: str) -> None:
    others = database.execute("SELECT path FROM entries WHERE sha = ? AND path != ?", (sha, path)).fetchall()
    moved = [(other,) for (other,) in others if not Path(other).is_file()]
    database.executemany("DELETE FROM entries WHERE path = ?", moved)


def _record_mask(database: sqlite3.Connection, path: str, noun: str, mask: Correction | None) -> str | None:
    """Record the correction or hint of an entry, or that it has none; returns why one does not fit the photo."""
    database.execute(f"DELETE FROM {noun}s WHERE path = ?", (path,))
    query = "SELECT height, width FROM photos JOIN entries USING (sha) WHERE path = ? AND quarantined IS NULL"
    size = database.execute(query, (path,)).fetchone() if mask else None
    if mask is None or size is None:
        return None
    fault = mask.size_fault(size)
    if fault is None:
        database.execute(f"INSERT INTO {noun}s VALUES (?, ?)", (path, pack_mask(mask)))
    return fault


def _row(sample: SampleDescription) -> tuple[object, ...]:
    """The columns of a description after its folder and name."""
    of_correction = *(sample.correction_stamp or (None, None)), pack_mask(sample.correction)
    return sample.size, sample.mtime_ns, sample.suffix, pack_tags(sample.tags), *of_correction


def _description(
    size: int,
    mtime_ns: int,
    suffix: str,
    tags: str,
    correction_size: int | None,
    correction_mtime_ns: int | None,
    correction: str | None,
) -> SampleDescription:
    stamp = None if correction_size is None or correction_mtime_ns is None else (correction_size, correction_mtime_ns)
    return SampleDescription(size, mtime_ns, suffix, unpack_tags(tags), stamp, unpack_mask(correction))


def _names(folder: Path) -> set[str]:
    """The names in a folder, none if it does not exist."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries}
    except (FileNotFoundError, NotADirectoryError):
        return set()


def _copy(sha: str, suffix: str) -> str:
    return f"{sha[:2]}/{sha}{suffix}"
