"""Data in object storage as a folder of this machine, which is brought up to date before it is read.

    CACHE/data/<digest of the URL>/<last part of the URL>/   a file for each object, of the same name
    CACHE/data/<digest of the URL>/objects.sqlite            the ETag of the object that each file is a copy of
    CACHE/data/<digest of the URL>/.lock                     held while the folder is brought up to date

Only what is new or changed is transferred: a second pass over unchanged data is a listing. A file is complete or
absent, and keeps its time as long as its object does not change. Hidden objects are left out, except for those that
name forgotten samples. The correction of an inbox's sample is copied with the description that names it, under the name
that it has in a folder.
"""

import hashlib
import json
import re
import shutil
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import islice
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tagmask.cache import FOLDER, LIMIT, cache_folder, cache_limit
from tagmask.disk import writable
from tagmask.errors import ConfigError, DataError, RunError
from tagmask.files import atomic_write, locked
from tagmask.inbox.bucket import correction_object
from tagmask.inbox.records import decode
from tagmask.inbox.storage import CORRECTION_SUFFIX, FORGOTTEN
from tagmask.inputs import Location, location
from tagmask.objects import Objects

_PAGE = 1000  # objects that are compared at a time
_TRANSFERS = 8  # at a time
_SAMPLE = re.compile(r"[0-9a-f]{2}/([0-9a-f]{64})\.json")
_CORRECTION = re.compile(rf"[0-9a-f]{{2}}/[0-9a-f]{{64}}\.[0-9a-f]+{re.escape(CORRECTION_SUFFIX)}")


@contextmanager
def local_copies(places: Iterable[str | PathLike[str]]) -> Iterator[list[Path]]:
    """The paths among `places`, and for each URL an up-to-date copy of all that is below it.

    For an object, such as a list of photos, everything beside it is copied too. A DataError that is raised in the
    context names URLs in place of their copies. Raises ObjectStorageError, ConfigError for a URL that cannot be used
    and for more than TAGMASK_CACHE_BYTES, and RunError when the cache cannot be written.
    """
    named = [location(place) for place in places]
    copies = [_local_copy(place) for place in named]
    try:
        yield copies
    except DataError as fault:
        message = str(fault)
        for copy, place in zip(copies, named, strict=True):
            message = message.replace(str(copy), str(place))
        if message == str(fault):
            raise
        raise DataError(message) from fault


def _local_copy(place: Location) -> Path:
    if isinstance(place, Path):
        return place
    url = place.rstrip("/")
    parent, _, name = url.rpartition("/")
    if "." in name and not parent.endswith("/") and Objects(parent).size(name) is not None:
        return _updated(parent) / name
    return _updated(url)


class _Object(NamedTuple):
    name: str
    tag: str
    size: int


class _Mirror:
    """The copy in `folder` of the `objects`; `database` is its record, and `parts` a folder for unfinished files."""

    def __init__(self, objects: Objects, folder: Path, parts: Path, database: sqlite3.Connection) -> None:
        self._objects, self._folder, self._parts, self._database = objects, folder, parts, database
        database.execute("CREATE TABLE IF NOT EXISTS copies (name TEXT PRIMARY KEY, tag TEXT, pass INT) WITHOUT ROWID")
        self._pass = 1 + database.execute("SELECT coalesce(max(pass), 0) FROM copies").fetchone()[0]

    def update(self) -> None:
        """Copy what is new or changed, and remove what is gone."""
        limit, size = cache_limit(), 0
        listed = iter(self._objects.list())
        with ThreadPoolExecutor(_TRANSFERS) as pool:
            while page := list(islice(listed, _PAGE)):
                found = [_Object(each["path"], each["e_tag"] or "", each["size"]) for each in page]
                copied = [each for each in found if self._is_copied(each)]
                size += sum(each.size for each in copied)
                if size > limit:
                    raise ConfigError(
                        f"{self._objects.url}: more than {limit:,} bytes, the maximum size of a copy in {FOLDER}; set "
                        f"{LIMIT} to more, or name a smaller part of the data"
                    )
                self._copy(copied, pool)
        self._remove_others()

    def _copy(self, found: list[_Object], pool: ThreadPoolExecutor) -> None:
        names = json.dumps([each.name for each in found])
        known = dict(
            self._database.execute(
                "SELECT name, tag FROM copies WHERE name IN (SELECT value FROM json_each(?))", (names,)
            )
        )
        tags = {each.name: each.tag for each in found if self._has(each, known)}
        changed = [each.name for each in found if each.name not in tags]
        for group in (  # a description is written after its photo
            [name for name in changed if not _SAMPLE.fullmatch(name)],
            [name for name in changed if _SAMPLE.fullmatch(name)],
        ):
            tags |= {name: tag for name, tag in zip(group, pool.map(self._transfer, group), strict=True) if tag}
        with self._database:
            rows = ((name, tag, self._pass) for name, tag in tags.items())
            self._database.executemany("INSERT OR REPLACE INTO copies VALUES (?, ?, ?)", rows)

    def _has(self, found: _Object, known: dict[str, str]) -> bool:
        path = self._folder / found.name
        return known.get(found.name) == found.tag and path.is_file() and path.stat().st_size == found.size

    def _transfer(self, name: str) -> str | None:
        """Copy an object; returns its tag, None if it is gone by now."""
        if sample := _SAMPLE.fullmatch(name):
            return self._transfer_sample(name, sample[1])
        try:
            tag, content = self._objects.get(name)
        except FileNotFoundError:
            return None
        self._write(name, content)
        return tag

    def _transfer_sample(self, name: str, sample: str) -> str | None:
        """Copy the description of a sample, and before it the correction that it names."""
        local = f"{sample[:2]}/{sample}{CORRECTION_SUFFIX}"
        document = self._objects.read(name)
        while document is not None:
            correction = correction_object(sample, decode(document.data))
            if correction is None:
                (self._folder / local).unlink(missing_ok=True)
            else:
                try:
                    self._write(local, self._objects.get(correction)[1])
                except FileNotFoundError:  # another description is there by now, unless others damaged the inbox
                    before, document = document, self._objects.read(name)
                    if document != before:
                        continue
            self._write(name, iter([document.data]))
            return document.tag
        return None

    def _write(self, name: str, content: Iterator[bytes]) -> None:
        part = self._parts / str(threading.get_ident())
        with atomic_write(self._folder / name, mode=None, temporary=part) as file:
            file.writelines(content)

    def _is_copied(self, found: _Object) -> bool:
        path = PurePosixPath(found.name)
        if path.is_absolute() or ".." in path.parts:
            raise DataError(f"{self._objects.place(found.name)}: cannot be the name of a file; rename the object")
        if path.parts[:1] == (FORGOTTEN,):
            return True
        hidden = any(part.startswith(".") for part in path.parts)
        is_folder = not found.size and not path.suffix  # consoles make such objects
        return not hidden and not is_folder and not _CORRECTION.fullmatch(found.name)

    def _remove_others(self) -> None:
        gone = [name for (name,) in self._database.execute("SELECT name FROM copies WHERE pass < ?", (self._pass,))]
        for name in gone:
            path = self._folder / name
            path.unlink(missing_ok=True)
            if sample := _SAMPLE.fullmatch(name):
                path.with_name(f"{sample[1]}{CORRECTION_SUFFIX}").unlink(missing_ok=True)
        with self._database:
            self._database.execute("DELETE FROM copies WHERE pass < ?", (self._pass,))


def _updated(url: str) -> Path:
    base = cache_folder("data") / hashlib.sha256(url.encode()).hexdigest()[:16]
    folder, parts = base / url.rpartition("/")[2], base / "parts"
    with writable(f"{base}, the copy of {url}"):
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(exist_ok=True)
        with locked(base / ".lock"), closing(sqlite3.connect(base / "objects.sqlite")) as database:
            shutil.rmtree(parts, ignore_errors=True)  # of a process that was killed
            parts.mkdir()
            try:
                _Mirror(Objects(url), folder, parts, database).update()
            except sqlite3.Error as fault:
                raise RunError(
                    f"{base}, the copy of {url}: {fault}; free disk space, or remove that folder, and start again"
                ) from fault
    return folder
