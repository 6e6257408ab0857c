"""Bundles by version, and which one is served.

    STORE/bundles/<version>/model.onnx      in object storage <sha256>.onnx
    STORE/bundles/<version>/record.json     written last: a bundle without it does not exist
    STORE/champion.json                     names the version that is served, and those before it
    STORE/history.jsonl                     a line for each change, appended after it; nothing is decided by it

Any number of processes may read and write one store. Writers to a folder take turns by a lock on STORE/.lock; in object
storage each document is written on condition that it is the one that was read. Readers take no lock, as everything
appears complete under its name. A process that is killed at any point leaves a store that works, and the next writer
removes what it left in a folder; at most the last line of the history is missing then.
"""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path
from types import EllipsisType
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from tagmask.bundle import read_bundle
from tagmask.documents import Changed, Document
from tagmask.errors import BundleError
from tagmask.files import parse_model
from tagmask.inputs import location
from tagmask.store.bucket import Bucket
from tagmask.store.folder import Folder
from tagmask.store.records import (
    MAX_FORMER,
    Champion,
    Event,
    Record,
    StoreUnreachable,
    StoreUnwritable,
    UnknownVersion,
)
from tagmask.store.storage import Storage, record_name

__all__ = [
    "MAX_FORMER", "Champion", "Event", "Record", "Store", "StoreUnreachable", "StoreUnwritable", "UnknownVersion",
]  # fmt: skip

log = logging.getLogger("tagmask.store")

_POINTER, _HISTORY = "champion.json", "history.jsonl"
_VERSION = re.compile(r"[0-9a-z][0-9a-z._-]{0,63}")


class Store:
    """The store at `root`: a folder, which need not exist to be read, or a URL such as s3://bucket/prefix.

    Raises BundleError and its subclasses alone, except ConfigError for a URL that cannot be used. What changes a store
    in object storage is tried again when another writer was faster.
    """

    def __init__(self, root: str | PathLike[str]) -> None:
        self.root = location(root)
        self._storage: Storage = Folder(self.root) if isinstance(self.root, Path) else Bucket(self.root)

    def versions(self) -> tuple[str, ...]:
        """Published versions, oldest publication first; one whose record is damaged is left out.

        Raises StoreUnreachable, as do `has` and `is_intact`.
        """
        records = []
        for version in self._storage.versions():
            with _damage_is_absence():
                records.append(self.record(version))
        return tuple(record.version for record in sorted(records, key=lambda each: (each.published, each.version)))

    def record(self, version: str) -> Record:
        """What is known of `version`. Raises UnknownVersion, and BundleError when its record cannot be read."""
        record = self._read_record(version)
        if record is None:
            raise self._unknown(version)
        return record

    def path(self, version: str) -> Path:
        """File of the published bundle `version`, in object storage a copy of it. Raises as `record` does."""
        return self._storage.model(self.record(version))

    def has(self, version: str) -> bool:
        """Whether `version` is published and its file exists, even if damaged."""
        with _damage_is_absence():
            return self._storage.has_model(self.record(version))
        return False

    def is_intact(self, version: str) -> bool:
        """Whether `version` is published and its file is the one that was."""
        with _damage_is_absence():
            record = self.record(version)
            if self._storage.has_model(record):
                read_bundle(self._storage.model(record), record.sha256, checked=False)
                return True
        return False

    def publish(self, bundle: Path) -> Record:
        """Check the bundle at `bundle` and copy it into the store, which is created if necessary.

        The same bytes again change nothing, but repair a damaged copy. Raises BundleError for a bundle
        that `read_bundle` refuses, or different bytes of a stored version; StoreUnwritable.
        """
        new = read_bundle(bundle)
        version = new.metadata.version
        published = Record(version=version, sha256=new.sha256, bytes=len(new.data), published=datetime.now(UTC))
        while True:
            with suppress(Changed), self._storage.writing(create=True):
                record = self._read_record(version) or published
                if record.sha256 != new.sha256:
                    raise BundleError(
                        f"{bundle}: version {version} is in the store with different bytes (SHA-256 {record.sha256}): "
                        "the same weights were exported twice; use the bundle in the store"
                    )
                if not self.is_intact(version):
                    self._storage.write_model(record, new.data)
                if record is published:
                    self._write(record_name(version), record, None)
                    self._log(Event(at=record.published, event="published", version=version))
                return record

    def champion(self) -> Champion | None:
        """The champion, None without one. Raises BundleError when the pointer cannot be read."""
        return self._read_pointer()[0]

    def promote(self, version: str, expected: str | EllipsisType | None = ...) -> Champion:
        """Make `version` the champion; nothing changes if it is. `expected` is the champion that this may replace, any
        by default; None: none, or one whose bundle is not in the store.

        Raises UnknownVersion, BundleError when its file is damaged or neither it nor `expected` is champion, and
        StoreUnwritable.
        """
        read_bundle(self.path(version), self.record(version).sha256)
        champion = self._promote(version, expected)
        if self._read_record(version) is None:  # in object storage it may have been removed meanwhile
            with suppress(BundleError):
                self.rollback(expected=version)
            raise self._unknown(version)
        return champion

    def _promote(self, version: str, expected: str | EllipsisType | None) -> Champion:
        while True:
            with suppress(Changed), self._storage.writing():
                now, document = self._read_pointer()
                self.record(version)  # it may have been removed since
                if now is not None and now.version == version:
                    return now
                self._check_expected(now, expected)
                before = () if now is None else (now.version, *now.before)
                return self._set_champion("promoted", version, before, document)

    def previous(self) -> str:
        """The version that `rollback` would go back to. Raises BundleError if none exists."""
        return self._former_champions(self.champion())[0]

    def rollback(self, expected: str | None = None) -> Champion:
        """Go back to the newest former champion whose file is intact; later ones are forgotten.

        `expected` is the champion that this may replace, by default the one at the time of the call. Raises BundleError
        when another is champion, or without a former champion, and StoreUnwritable.
        """
        known = self.champion()
        self._former_champions(known)  # raises before a lock is made
        expected = expected or (known.version if known else None)
        while True:
            with suppress(Changed), self._storage.writing():
                now, document = self._read_pointer()
                self._check_expected(now, expected)
                version, *before = self._former_champions(now)
                return self._set_champion("rolled back", version, tuple(before), document)

    def retain(self, newest: int) -> tuple[str, ...]:
        """Remove all but the `newest` versions, the champion, and the one that `rollback` would go back to.

        Returns the versions that were removed, oldest first. A service that has loaded one keeps it. Raises
        BundleError when the pointer cannot be read, ValueError for a negative number, and StoreUnwritable.
        """
        if newest < 0:
            raise ValueError(f"newest is {newest}, must be at least 0")
        if len(self.versions()) <= newest:
            return ()
        with self._storage.writing():
            kept, versions = self._kept(), self.versions()
            old = [each for each in versions[: max(0, len(versions) - newest)] if each not in kept]
            return tuple(version for version in old if self._retire(version))

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
        with self._storage.writing(create=True):
            self._append(event)
        return event

    def history(self) -> Iterator[Event]:
        """All events in the store, oldest first, one line in memory at a time.

        Lines that cannot be parsed, as a killed writer may leave one, are skipped. Raises BundleError when the file
        cannot be read.
        """
        for line in self._storage.lines(_HISTORY):
            with suppress(ValidationError):
                yield Event.model_validate_json(line)

    def _unknown(self, version: str) -> UnknownVersion:
        return UnknownVersion(
            f"version {version[:80]!r} is not in the store {str(self.root)!r}; see `tagmask models list`"
        )

    def _read_record(self, version: str) -> Record | None:
        if not _VERSION.fullmatch(version):  # clients of the service send it, and it must not lead out of the store
            raise self._unknown(version)
        place, remedy = self._storage.place(record_name(version)), "remove that file and add the bundle again"
        document = self._storage.read(record_name(version))
        if document is None:
            return None
        record = parse_model(document.data, Record, place=place, error=BundleError, remedy=remedy)
        if record.version != version:
            raise BundleError(f"{place}: is the record of version {record.version!r}; {remedy}")
        return record

    def _read_pointer(self) -> tuple[Champion | None, Document | None]:
        document = self._storage.read(_POINTER)
        if document is None:
            return None, None
        remedy = "remove that file, then run `tagmask models promote VERSION`"
        place = self._storage.place(_POINTER)
        return parse_model(document.data, Champion, place=place, error=BundleError, remedy=remedy), document

    def _former_champions(self, now: Champion | None) -> tuple[str, ...]:
        """Former champions from the newest intact one on."""
        if now is not None:
            for index, version in enumerate(now.before):
                if version != now.version and self.is_intact(version):
                    return now.before[index:]
        raise BundleError(
            f"{self._storage.place(_POINTER)}: no former champion to go back to; `tagmask models promote VERSION` "
            "makes another one"
        )

    def _kept(self) -> set[str]:
        """The champion, and the one that `rollback` would go back to."""
        now = self.champion()
        if now is None:
            return set()
        with _damage_is_absence():
            return {now.version, self._former_champions(now)[0]}
        return {now.version}

    def _retire(self, version: str) -> bool:
        """Remove a version, unless it becomes champion meanwhile, as in object storage it may."""
        record = self._read_record(version)
        self._storage.withdraw(version)
        if record is not None and version in self._kept():
            self._write(record_name(version), record, None)
            return False
        self._storage.discard(version)
        self._log(Event(at=datetime.now(UTC), event="retired", version=version))
        return True

    def _check_expected(self, now: Champion | None, expected: str | EllipsisType | None) -> None:
        found = now.version if now else None
        if expected in (..., found) or (expected is None and found and not self.has(found)):
            return
        raise BundleError(
            f"{self._storage.place(_POINTER)}: the champion is {found or 'not set'}, not {expected or 'unset'} as "
            "expected; it was changed meanwhile, check it and try again"
        )

    def _set_champion(
        self, event: Literal["promoted", "rolled back"], version: str, before: tuple[str, ...], now: Document | None
    ) -> Champion:
        champion = Champion(version=version, since=datetime.now(UTC), before=before[:MAX_FORMER])
        self._write(_POINTER, champion, now)
        self._log(Event(at=champion.since, event=event, version=version))
        return champion

    def _write(self, name: str, document: BaseModel, now: Document | None) -> None:
        self._storage.replace(name, document.model_dump_json(indent=2).encode() + b"\n", now)

    def _append(self, event: Event) -> None:
        self._storage.append(_HISTORY, event.model_dump_json(exclude_defaults=True).encode() + b"\n")

    def _log(self, event: Event) -> None:
        """Add a change to the history. If that fails, the change stands, and the log warns of it."""
        try:
            self._append(event)
        except BundleError as fault:
            log.warning("'%s %s' is missing in the history: %s", event.version, event.event, fault)


@contextmanager
def _damage_is_absence() -> Iterator[None]:
    """What is missing or damaged raises no error; a store that does not answer still does."""
    try:
        yield
    except StoreUnreachable:
        raise
    except BundleError:
        return
