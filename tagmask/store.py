"""Where bundles live by version, and which one is served.

    STORE/bundles/<version>/model.onnx
    STORE/bundles/<version>/record.json     written last: a bundle without it does not exist
    STORE/champion.json                     names the version that is served, and those before it
    STORE/history.jsonl                     a line for each change, appended after it; nothing is decided by it

Any number of processes may read and write one store. Writers take turns by a lock on STORE/.lock; readers take none,
as every file appears whole under its name. A process that is killed at any point leaves a store that works, and the
next writer removes what it left; at most the last line of the history is missing then.
"""

import fcntl
import logging
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from tagmask.bundle import read_bundle
from tagmask.errors import BundleError
from tagmask.files import sync_folder

MAX_BEFORE = 50
"""Former champions that are remembered."""

MODEL, RECORD = "model.onnx", "record.json"
"""Files of a version."""

log = logging.getLogger("tagmask.store")

_VERSION = re.compile(r"[0-9a-z][0-9a-z._-]{0,63}")
_PART = ".part"
_FILE_MODE, _FOLDER_MODE = 0o644, 0o755


class UnknownVersion(BundleError):
    """No bundle of this version is in the store."""


class StoreUnwritable(BundleError):
    """The disk or its permissions do not let the store be changed."""


class Record(BaseModel):
    """What the store knows of a bundle: `sha256` (hex) and `bytes` of its file, and when it was `published`."""

    model_config = ConfigDict(frozen=True)

    version: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=1)
    published: AwareDatetime


class Champion(BaseModel):
    """The `version` that is served, `since` when, and the champions `before` it, newest first, at most MAX_BEFORE."""

    model_config = ConfigDict(frozen=True)

    version: str
    since: AwareDatetime
    before: tuple[str, ...] = Field(max_length=MAX_BEFORE)


class Event(BaseModel):
    """A line of the history: what became of `version`, and when.

    A decision also tells whether the version was `promoted` by it, the `reasons` in words, and the `figures`.
    """

    model_config = ConfigDict(frozen=True)

    at: AwareDatetime
    event: Literal["published", "promoted", "rolled back", "decided", "retired"]
    version: str
    promoted: bool | None = None
    reasons: tuple[str, ...] = ()
    figures: dict[str, Any] = Field(default_factory=dict)


_Document = TypeVar("_Document", Record, Champion)


class Store:
    """The store at a folder, which need not exist to be read. Raises BundleError and its subclasses alone."""

    def __init__(self, root: Path) -> None:
        self.root = root
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
        record = self._recorded(version)
        if record is None:
            raise self._unknown(version)
        return record

    def path(self, version: str) -> Path:
        """File of the published bundle `version`. Raises as `record` does."""
        self.record(version)
        return self._file(version)

    def publish(self, bundle: Path) -> Record:
        """Check the bundle at `bundle` and copy it into the store, which is made if need be.

        The same bytes again change nothing, and put right a copy that was damaged. Raises BundleError for a bundle
        that `read_bundle` refuses, or other bytes under a version that is there; StoreUnwritable.
        """
        given = read_bundle(bundle)
        version = given.metadata.version
        new = Record(version=version, sha256=given.sha256, bytes=len(given.data), published=datetime.now(UTC))
        with self._writing(create=True):
            record = self._recorded(version) or new
            if record.sha256 != given.sha256:
                raise BundleError(
                    f"{bundle}: version {version} is in the store with other bytes (SHA-256 {record.sha256}); the same "
                    "weights were exported twice, go on with those in the store"
                )
            if not self._intact(record):
                _make_folder(self._folder(version))
                _write(self._file(version), given.data)
                _write(self._folder(version) / RECORD, _encoded(record))
            if record is new:
                self._tell(Event(at=record.published, event="published", version=version))
        return record

    def champion(self) -> Champion | None:
        """The champion, None without one. Raises BundleError when the pointer cannot be read."""
        return _read(self._pointer, Champion, "remove that file, then `tagmask models promote VERSION`")

    def promote(self, version: str, expected: str | None = None) -> Champion:
        """Make `version` the champion; nothing changes if it is. `expected` is the champion that this may replace.

        Raises UnknownVersion, BundleError when its file is damaged or another than `expected` is champion, and
        StoreUnwritable.
        """
        read_bundle(self._file(version), self.record(version).sha256)
        with self._writing():
            self.record(version)  # it may have been removed since
            now = self.champion()
            self._expect(now, expected)
            if now is not None and now.version == version:
                return now
            champion = self._point(version, () if now is None else (now.version, *now.before))
            self._tell(Event(at=champion.since, event="promoted", version=version))
        return champion

    def previous(self) -> str:
        """The version that `rollback` would go back to. Raises BundleError when there is none."""
        return self._before(self.champion())[0]

    def rollback(self, expected: str | None = None) -> Champion:
        """Go back to the newest former champion whose file is still whole; those after it are forgotten.

        `expected` is the champion that this may replace. Raises BundleError when another is, or when there is nothing
        to go back to, and StoreUnwritable.
        """
        self.previous()  # raises before a lock is made
        with self._writing():
            now = self.champion()
            self._expect(now, expected)
            version, *before = self._before(now)
            champion = self._point(version, tuple(before))
            self._tell(Event(at=champion.since, event="rolled back", version=version))
        return champion

    def retain(self, newest: int) -> tuple[str, ...]:
        """Remove all but the `newest` versions, the champion, and the one that `rollback` would go back to.

        Returns the versions that were removed, oldest first. A service that has one loaded goes on with it. Raises
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
                    kept.add(self._before(now)[0])
            versions = self.versions()
            removed = tuple(each for each in versions[: max(0, len(versions) - newest)] if each not in kept)
            for version in removed:
                self._remove(version)
                self._tell(Event(at=datetime.now(UTC), event="retired", version=version))
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
            _append(self._history, _line(event))
        return event

    def history(self) -> Iterator[Event]:
        """All that happened in the store, oldest first, one line in memory at a time.

        Lines that cannot be understood, as a killed writer may leave one, are left out. Raises BundleError when the
        file cannot be read.
        """
        try:
            with self._history.open("rb") as lines:
                for line in lines:
                    with suppress(ValidationError):
                        yield Event.model_validate_json(line)
        except FileNotFoundError:
            return
        except OSError as fault:
            raise BundleError(
                f"{self._history}: cannot be read ({fault.strerror}); let the user of this process read it"
            ) from fault

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

    def _recorded(self, version: str) -> Record | None:
        path = self._folder(version) / RECORD
        record = _read(path, Record, "remove that file and add the bundle again")
        if record is not None and record.version != version:
            raise BundleError(f"{path}: tells of version {record.version!r}; remove that file and add the bundle again")
        return record

    def _intact(self, record: Record) -> bool:
        try:
            read_bundle(self._file(record.version), record.sha256, checked=False)
        except BundleError:
            return False
        return True

    def _before(self, now: Champion | None) -> tuple[str, ...]:
        """Former champions from the newest whole one on."""
        if now is not None:
            for index, version in enumerate(now.before):
                with suppress(BundleError):
                    if version != now.version and self._intact(self.record(version)):
                        return now.before[index:]
        raise BundleError(
            f"{self._pointer}: no former champion to go back to; `tagmask models promote VERSION` makes another one"
        )

    def _expect(self, now: Champion | None, expected: str | None) -> None:
        if expected is not None and (now is None or now.version != expected):
            raise BundleError(
                f"{self._pointer}: the champion is {now.version if now else 'not set'}, expected was {expected}; "
                "somebody else changed it, look again"
            )

    def _point(self, version: str, before: tuple[str, ...]) -> Champion:
        champion = Champion(version=version, since=datetime.now(UTC), before=before[:MAX_BEFORE])
        _write(self._pointer, _encoded(champion))
        return champion

    def _remove(self, version: str) -> None:
        """Without its record a bundle does not exist; if this is killed then, the next writer removes the rest."""
        folder = self._folder(version)
        (folder / RECORD).unlink()
        sync_folder(folder)
        (folder / MODEL).unlink(missing_ok=True)
        with suppress(OSError):  # somebody put a file of their own there
            folder.rmdir()

    def _tell(self, event: Event) -> None:
        """Add what was done to the history. It stays done if that fails, as whoever asked for it must know."""
        try:
            _append(self._history, _line(event))
        except OSError as fault:
            log.warning("%s: '%s %s' is missing there (%s)", self._history, event.version, event.event, fault.strerror)

    @contextmanager
    def _writing(self, create: bool = False) -> Iterator[None]:
        """One writer at a time, over all processes and threads."""
        try:
            if create:
                _make_folder(self._bundles)
            lock = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._clean()
                yield
            finally:
                os.close(lock)
        except OSError as fault:
            raise StoreUnwritable(
                f"{fault.filename or self.root}: cannot be written ({fault.strerror}); make room, or give the user of "
                "this process the right to write there"
            ) from fault

    def _clean(self) -> None:
        """Remove what killed writers left; only under the lock."""
        leftovers = [*self.root.glob(f".*{_PART}"), *self._bundles.glob(f"*/.*{_PART}")]
        leftovers += [path for path in self._bundles.glob(f"*/{MODEL}") if not path.with_name(RECORD).exists()]
        for path in leftovers:
            path.unlink(missing_ok=True)
        for folder in self._bundles.glob("*"):
            if not (folder / RECORD).exists():
                with suppress(OSError):  # it holds something that is not ours
                    folder.rmdir()


def _read(path: Path, kind: type[_Document], remedy: str) -> _Document | None:
    """The document at `path`, None when there is no such file."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as fault:
        raise BundleError(f"{path}: cannot be read ({fault.strerror}); let the user of this process read it") from fault
    except ValidationError as fault:
        first = fault.errors()[0]
        name = "".join(f" {part}" for part in first["loc"])
        raise BundleError(f"{path}: damaged{name} ({first['msg']}); {remedy}") from fault


def _encoded(document: BaseModel) -> bytes:
    return document.model_dump_json(indent=2).encode() + b"\n"


def _line(event: Event) -> bytes:
    return event.model_dump_json(exclude_defaults=True).encode() + b"\n"


def _append(path: Path, line: bytes) -> None:
    """Add `line` to `path`, below what a killed writer may have left of its own."""
    new = not path.exists()
    with path.open("a+b") as file:
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                line = b"\n" + line
        file.write(line)
        file.flush()
        os.fchmod(file.fileno(), _FILE_MODE)
        os.fsync(file.fileno())
    if new:
        sync_folder(path.parent)


def _write(path: Path, data: bytes) -> None:
    """Write `data` to `path`, which then holds all of it or what it held before, whatever happens."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=_PART)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), _FILE_MODE)
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def _make_folder(path: Path) -> None:
    """Make `path` and what is missing above it, readable by all whatever the umask, and last across a power cut."""
    if path.is_dir():
        return
    _make_folder(path.parent)
    path.mkdir(exist_ok=True)
    path.chmod(_FOLDER_MODE)
    sync_folder(path.parent)
