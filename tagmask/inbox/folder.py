"""An inbox in a folder, whose writers take turns by locks.

One writer at a time holds <aa>/.lock and writes <aa>/.part, which is renamed once it is on the disk.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tagmask.documents import Document
from tagmask.errors import StartError, StorageFull
from tagmask.files import UnfitFileError, atomic_write, locked, read_bytes, sync_folder
from tagmask.inbox.records import decode, encode
from tagmask.inbox.storage import CORRECTION_SUFFIX, FORGOTTEN, Files, Stored, description_name
from tagmask.sample_set import SampleSet


class Folder:
    """Samples in the folder `root`, which leave `min_free_bytes` of its disk free."""

    def __init__(self, root: Path, min_free_bytes: int) -> None:
        self._root = root
        self._min_free_bytes = min_free_bytes
        self._forgotten = SampleSet(root / FORGOTTEN)

    def check(self) -> None:
        """Make the folder. Raises StartError if it cannot be used."""
        root = self._root
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as fault:
            raise StartError(f"inbox {root}: cannot be created ({fault.strerror}); name another folder") from fault
        if not os.access(root, os.R_OK | os.W_OK | os.X_OK):
            raise StartError(f"inbox {root}: not writable; grant access to it, or name another folder")

    @contextmanager
    def changing(self, sample: str) -> Iterator[None]:
        """Be the only writer in the sample's folder, made if absent.

        The half-written file of a killed or failed one is removed.
        """
        folder = self._folder(sample)
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / ".lock"):
            try:
                yield
            finally:
                (folder / ".part").unlink(missing_ok=True)

    @contextmanager
    def changing_annotations(self) -> Iterator[None]:
        """Let no one else change annotations."""
        folder = self._root / ".annotations"
        folder.mkdir(exist_ok=True)
        with locked(folder / ".lock"):
            yield

    def read(self, sample: str) -> Stored:
        """What there is of a sample."""
        document = self.read_document(description_name(sample))
        return Stored(decode(document.data) if document else None, document, self._correction(sample).is_file())

    def has_photo(self, sample: str, image: str) -> bool:
        """Whether the photo of a sample, called `image`, is there."""
        return (self._folder(sample) / image).is_file()

    def correction(self, sample: str, stored: Stored) -> bytes | None:
        """The PNG of its correction, None without one, or if others damaged it."""
        try:
            return read_bytes(self._correction(sample))
        except OSError:
            return None

    def write(self, sample: str, files: Files, now: Stored) -> None:
        """Write a sample; on return all is on the disk. Raises StorageFull."""
        folder, correction = self._folder(sample), self._correction(sample)
        written: dict[Path, bytes] = {}
        if files.photo is not None:
            written[folder / files.record["image"]] = files.photo
        if files.correction:
            written[correction] = files.correction
        growth = sum(map(len, written.values()))
        if files.record != now.record:
            written[self._root / description_name(sample)] = description = encode(files.record)
            growth += len(description) - len(now.document.data if now.document else b"")
        if growth > 0:  # a full disk still lets tags be taken back
            self._check_space(growth)
        try:
            if files.correction == b"":
                correction.unlink(missing_ok=True)
            for path, content in written.items():
                with atomic_write(path, mode=None, temporary=folder / ".part") as file:
                    file.write(content)
            # Also if nothing is new: the first writer of the sample may have been killed before this.
            for path in (folder, self._root):
                sync_folder(path)
        except OSError:
            if not now.record:
                with suppress(OSError):
                    for path in (correction, folder / files.record["image"]):
                        path.unlink(missing_ok=True)
            raise

    def has(self, sample: str) -> bool:
        """Whether there is anything of a sample."""
        return any(self._folder(sample).glob(f"{sample}.*"))

    def remove(self, sample: str) -> None:
        """Remove all that there is of a sample, its description first."""
        folder = self._folder(sample)
        for path in sorted(folder.glob(f"{sample}.*"), key=lambda path: path.suffix != ".json"):
            path.unlink()
        sync_folder(folder)

    def is_forgotten(self, sample: str) -> bool:
        """Whether a sample was forgotten."""
        return sample in self._forgotten

    def forget(self, sample: str) -> None:
        """Note that a sample was forgotten."""
        self._forgotten.add(sample)

    def forgotten(self) -> Iterator[str]:
        """The samples that were forgotten, sorted."""
        return iter(self._forgotten)

    def read_document(self, name: str) -> Document | None:
        """A document; None if it does not exist, or is no regular file."""
        try:
            return Document(read_bytes(self._root / name))
        except (FileNotFoundError, UnfitFileError):
            return None

    def replace_document(self, name: str, data: bytes, now: Document | None) -> None:
        """Write a document; the lock keeps others from changing it meanwhile."""
        path = self._root / name
        with atomic_write(path, mode=None, durable=True, temporary=path.with_name(".part")) as file:
            file.write(data)

    def documents(self, folder: str) -> Iterator[str]:
        """Names of the documents in a folder."""
        return (f"{folder}/{path.name}" for path in (self._root / folder).glob("*.json"))

    def _folder(self, sample: str) -> Path:
        return self._root / sample[:2]

    def _correction(self, sample: str) -> Path:
        return self._folder(sample) / f"{sample}{CORRECTION_SUFFIX}"

    def _check_space(self, size: int) -> None:
        free = shutil.disk_usage(self._root).free
        if free - size < self._min_free_bytes:
            state = f"has {free:,} bytes free, and {self._min_free_bytes:,} must stay free"
            raise disk_full(state, self._min_free_bytes)


def disk_full(state: str, min_free_bytes: int) -> StorageFull:
    """The error for a disk in this `state`."""
    message = f"the disk for samples {state}; send the photo again when the operator of the service has freed space"
    return StorageFull(message, limit=min_free_bytes)
