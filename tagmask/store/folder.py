"""A store in a folder, whose writers take turns by a lock."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tagmask.disk import write_fault
from tagmask.documents import Document
from tagmask.errors import BundleError
from tagmask.files import locked, open_file, read_bytes, read_fault, sync_folder, unfinished, write_bytes
from tagmask.store.records import Record, StoreUnwritable
from tagmask.store.storage import RECORD, record_name

MODEL = "model.onnx"

_FILE_MODE, _FOLDER_MODE = 0o644, 0o755


class Folder:
    """Storage in the folder `root`, which need not exist to be read. Readers take no lock."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._bundles = root / "bundles"

    @contextmanager
    def writing(self, create: bool = False) -> Iterator[None]:
        """Be the only writer, over all processes and threads."""
        try:
            if create:
                _make_folder(self._bundles)
            with locked(self.root / ".lock"):
                self._clean()
                yield
        except OSError as fault:
            raise StoreUnwritable(f"{fault.filename or self.root}: {write_fault(fault)}") from fault

    def versions(self) -> Iterator[str]:
        """Names of the versions that have a record."""
        return (path.parent.name for path in self._bundles.glob(f"*/{RECORD}"))

    def read(self, name: str) -> Document | None:
        """A document; None if it does not exist."""
        path = self.root / name
        try:
            return Document(read_bytes(path))
        except FileNotFoundError:
            return None
        except OSError as fault:
            raise BundleError(f"{path}: {read_fault(fault, 'make it a file that this process can read')}") from fault

    def replace(self, name: str, data: bytes, now: Document | None) -> None:
        """Write a document; the lock keeps others from changing it meanwhile."""
        _make_folder((self.root / name).parent)
        write_bytes(self.root / name, data, durable=True)

    def append(self, name: str, line: bytes) -> None:
        """Add a line to a document, below any half line of a killed writer."""
        path = self.root / name
        try:
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
        except OSError as fault:
            raise StoreUnwritable(f"{path}: {write_fault(fault)}") from fault

    def lines(self, name: str) -> Iterator[bytes]:
        """The lines of a document, one in memory at a time, none if it does not exist."""
        path = self.root / name
        try:
            with open_file(path) as lines:
                yield from lines
        except FileNotFoundError:
            return
        except OSError as fault:
            raise BundleError(f"{path}: {read_fault(fault)}") from fault

    def place(self, name: str) -> str:
        """What messages call the document."""
        return str(self.root / name)

    def has_model(self, record: Record) -> bool:
        """Whether the model's file exists, even if damaged."""
        return self.model(record).is_file()

    def model(self, record: Record) -> Path:
        """The model's file, which may be missing."""
        return self._bundles / record.version / MODEL

    def write_model(self, record: Record, data: bytes) -> None:
        """Write the model, in place of a damaged one."""
        path = self.model(record)
        _make_folder(path.parent)
        write_bytes(path, data, durable=True)

    def withdraw(self, version: str) -> None:
        """Remove the record of a version; if this process is killed then, the next writer removes the rest."""
        record = self.root / record_name(version)
        record.unlink()
        sync_folder(record.parent)

    def discard(self, version: str) -> None:
        """Remove the rest of a version that has no record."""
        folder = self._bundles / version
        (folder / MODEL).unlink(missing_ok=True)
        with suppress(OSError):  # it holds a file that is not ours
            folder.rmdir()

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


def _make_folder(path: Path) -> None:
    """Make `path` and what is missing above it, readable by all whatever the umask, so that it survives a power cut."""
    if path.is_dir():
        return
    _make_folder(path.parent)
    path.mkdir(exist_ok=True)
    path.chmod(_FOLDER_MODE)
    sync_folder(path.parent)
