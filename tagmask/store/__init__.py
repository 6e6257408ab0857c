"""Bundles by version, and which one is served.

    STORE/bundles/<version>/model.onnx
    STORE/bundles/<version>/record.json     written last: a bundle without it does not exist
    STORE/champion.json                     names the version that is served, and those before it
    STORE/history.jsonl                     a line for each change, appended after it; nothing is decided by it

Any number of processes may read and write one store. Writers take turns by a lock on STORE/.lock; readers take none,
as every file appears complete under its name. A process that is killed at any point leaves a store that works, and the
next writer removes what it left; at most the last line of the history is missing then.
"""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from tagmask.bundle import read_bundle
from tagmask.disk import write_fault
from tagmask.errors import BundleError
from tagmask.files import locked, read_model, sync_folder, unfinished, write_bytes
from tagmask.inputs import local_path
from tagmask.store.history import append_event, read_events
from tagmask.store.records import MAX_FORMER, Champion, Event, Record, StoreUnwritable, UnknownVersion

__all__ = ["MAX_FORMER", "MODEL", "RECORD", "Champion", "Event", "Record", "Store", "StoreUnwritable", "UnknownVersion"]

MODEL, RECORD = "model.onnx", "record.json"
"""Files of a version."""

log = logging.getLogger("tagmask.store")

_VERSION = re.compile(r"[0-9a-z][0-9a-z._-]{0,63}")
_FILE_MODE, _FOLDER_MODE = 0o644, 0o755


class Store:
    """The store at a folder, which need not exist to be read. Raises BundleError and its subclasses alone,
    except ConfigError when `root` is a URL.
    """

    def __init__(self, root: Path) -> None:
        self.root = local_path(root)
        self._bundles = root / "bundles"
        self._pointer = root / "champion.json"
        self._history = root / "history.jsonl"

    def versions(self) -> tuple[str, ...]:
        """Published versions, oldest publication first; one whose record cannot be read is left out."""
        records = []
        for path in self._bundles.glob(f"*/{RECORD}"):
            with suppress(BundleError):
                records.append(self.record(path.parent.name))
        return tuple(record.version for record in sorted(records, key=lambda each: (each.published, each.version)))

    def record(self, version: str) -> Record:
        """What is known of `version`. Raises UnknownVersion, and BundleError when its record cannot be read."""
        record = self._read_record(version)
        if record is None:
            raise self._unknown(version)
        return record

    def path(self, version: str) -> Path:
        """File of the published bundle `version`. Raises as `record` does."""
        self.record(version)
        return self._file(version)

    def has(self, version: str) -> bool:
        """Whether `version` is published and its file exists, even if damaged."""
        with suppress(BundleError):
            return self.path(version).is_file()
        return False

    def is_intact(self, version: str) -> bool:
        """Whether `version` is published and its file is the one that was."""
        try:
            read_bundle(self._file(version), self.record(version).sha256, checked=False)
        except BundleError:
            return False
        return True

    def publish(self, bundle: Path) -> Record:
        """Check the bundle at `bundle` and copy it into the store, which is created if necessary.

        The same bytes again change nothing, but repair a damaged copy. Raises BundleError for a bundle
        that `read_bundle` refuses, or different bytes of a stored version; StoreUnwritable.
        """
        new = read_bundle(bundle)
        version = new.metadata.version
        published = Record(version=version, sha256=new.sha256, bytes=len(new.data), published=datetime.now(UTC))
        with self._writing(create=True):
            record = self._read_record(version) or published
            if record.sha256 != new.sha256:
                raise BundleError(
                    f"{bundle}: version {version} is in the store with different bytes (SHA-256 {record.sha256}): the "
                    "same weights were exported twice; use the bundle in the store"
                )
            if not self.is_intact(version):
                _make_folder(self._folder(version))
                write_bytes(self._file(version), new.data, durable=True)
                _write_document(self._folder(version) / RECORD, record)
            if record is published:
                self._log(Event(at=record.published, event="published", version=version))
        return record

    def champion(self) -> Champion | None:
        """The champion, None without one. Raises BundleError when the pointer cannot be read."""
        remedy = "remove that file, then run `tagmask models promote VERSION`"
        return read_model(self._pointer, Champion, error=BundleError, remedy=remedy)

    def promote(self, version: str, expected: str | None = None) -> Champion:
        """Make `version` the champion; nothing changes if it is. `expected` is the champion that this may replace.

        Raises UnknownVersion, BundleError when its file is damaged or another than `expected` is champion, and
        StoreUnwritable.
        """
        read_bundle(self._file(version), self.record(version).sha256)
        with self._writing():
            self.record(version)  # it may have been removed since
            now = self.champion()
            self._check_expected(now, expected)
            if now is not None and now.version == version:
                return now
            champion = self._set_champion(version, () if now is None else (now.version, *now.before))
            self._log(Event(at=champion.since, event="promoted", version=version))
        return champion

    def previous(self) -> str:
        """The version that `rollback` would go back to. Raises BundleError if none exists."""
        return self._former_champions(self.champion())[0]

    def rollback(self, expected: str | None = None) -> Champion:
        """Go back to the newest former champion whose file is intact; later ones are forgotten.

        `expected` is the champion that this may replace. Raises BundleError when another is champion,
        or without a former champion, and StoreUnwritable.
        """
        self.previous()  # raises before a lock is made
        with self._writing():
            now = self.champion()
            self._check_expected(now, expected)
            version, *before = self._former_champions(now)
            champion = self._set_champion(version, tuple(before))
            self._log(Event(at=champion.since, event="rolled back", version=version))
        return champion

    def retain(self, newest: int) -> tuple[str, ...]:
        """Remove all but the `newest` versions, the champion, and the one that `rollback` would go back to.

        Returns the versions that were removed, oldest first. A service that has loaded one keeps it. Raises
        BundleError when the pointer cannot be read, ValueError for a negative number, and StoreUnwritable.
        """
        if newest < 0:
            raise ValueError(f"newest is {newest}, must be at least 0")
        if len(self.versions()) <= newest:
            return ()
        with self._writing():
            kept, now = set[str](), self.champion()
            if now is not None:
                kept.add(now.version)
                with suppress(BundleError):
                    kept.add(self._former_champions(now)[0])
            versions = self.versions()
            removed = tuple(each for each in versions[: max(0, len(versions) - newest)] if each not in kept)
            for version in removed:
                self._remove(version)
                self._log(Event(at=datetime.now(UTC), event="retired", version=version))
        return removed

    def record_decision(
        self, version: str, *, promoted: bool, reasons: Sequence[str], figures: Mapping[str, Any]
    ) -> Event:
        """Add to the history whether `version`, which need not be in the store, was found fit to be champion, and why.

        `figures` are values that JSON has. The pointer stays as it is. Raises StoreUnwritable.
        """
        event = Event(
            at=datetime.now(UTC),
            event="decided",
            version=version,
            promoted=promoted,
            reasons=tuple(reasons),
            figures=dict(figures),
        )
        with self._writing(create=True):
            append_event(self._history, event, _FILE_MODE)
        return event

    def history(self) -> Iterator[Event]:
        """All events in the store, oldest first, one line in memory at a time.

        Lines that cannot be parsed, as a killed writer may leave one, are skipped. Raises BundleError when the file
        cannot be read.
        """
        return read_events(self._history)

    def _folder(self, version: str) -> Path:
        if not _VERSION.fullmatch(version):  # clients of the service send it, and it must not lead out of the store
            raise self._unknown(version)
        return self._bundles / version

    def _file(self, version: str) -> Path:
        return self._folder(version) / MODEL

    def _unknown(self, version: str) -> UnknownVersion:
        return UnknownVersion(
            f"version {version[:80]!r} is not in the store {str(self.root)!r}; see `tagmask models list`"
        )

    def _read_record(self, version: str) -> Record | None:
        path = self._folder(version) / RECORD
        remedy = "remove that file and add the bundle again"
        record = read_model(path, Record, error=BundleError, remedy=remedy)
        if record is not None and record.version != version:
            raise BundleError(f"{path}: is the record of version {record.version!r}; {remedy}")
        return record

    def _former_champions(self, now: Champion | None) -> tuple[str, ...]:
        """Former champions from the newest intact one on."""
        if now is not None:
            for index, version in enumerate(now.before):
                if version != now.version and self.is_intact(version):
                    return now.before[index:]
        raise BundleError(
            f"{self._pointer}: no former champion to go back to; `tagmask models promote VERSION` makes another one"
        )

    def _check_expected(self, now: Champion | None, expected: str | None) -> None:
        if expected is not None and (now is None or now.version != expected):
            raise BundleError(
                f"{self._pointer}: the champion is {now.version if now else 'not set'}, not {expected} as expected; "
                "it was changed meanwhile, check it and try again"
            )

    def _set_champion(self, version: str, before: tuple[str, ...]) -> Champion:
        champion = Champion(version=version, since=datetime.now(UTC), before=before[:MAX_FORMER])
        _write_document(self._pointer, champion)
        return champion

    def _remove(self, version: str) -> None:
        """Without its record a bundle does not exist; if this is killed then, the next writer removes the rest."""
        folder = self._folder(version)
        (folder / RECORD).unlink()
        sync_folder(folder)
        (folder / MODEL).unlink(missing_ok=True)
        with suppress(OSError):  # it holds a file that is not ours
            folder.rmdir()

    def _log(self, event: Event) -> None:
        """Add a change to the history. If that fails, the change stands, and the log warns of it."""
        try:
            append_event(self._history, event, _FILE_MODE)
        except OSError as fault:
            log.warning("%s: '%s %s' is missing (%s)", self._history, event.version, event.event, fault.strerror)

    @contextmanager
    def _writing(self, create: bool = False) -> Iterator[None]:
        """One writer at a time, over all processes and threads."""
        try:
            if create:
                _make_folder(self._bundles)
            with locked(self.root / ".lock"):
                self._clean()
                yield
        except OSError as fault:
            raise StoreUnwritable(f"{fault.filename or self.root}: {write_fault(fault)}") from fault

    def _clean(self) -> None:
        """Remove what killed writers left; only under the lock."""
        leftovers = [path for folder in (self.root, *self._bundles.glob("*")) for path in unfinished(folder)]
        leftovers += [path for path in self._bundles.glob(f"*/{MODEL}") if not path.with_name(RECORD).exists()]
        for path in leftovers:
            path.unlink(missing_ok=True)
        for folder in self._bundles.glob("*"):
            if not (folder / RECORD).exists():
                with suppress(OSError):  # it holds something that is not ours
                    folder.rmdir()


def _write_document(path: Path, document: BaseModel) -> None:
    write_bytes(path, document.model_dump_json(indent=2).encode() + b"\n", durable=True)


def _make_folder(path: Path) -> None:
    """Make `path` and what is missing above it, readable by all whatever the umask, and last across a power cut."""
    if path.is_dir():
        return
    _make_folder(path.parent)
    path.mkdir(exist_ok=True)
    path.chmod(_FOLDER_MODE)
    sync_folder(path.parent)
