"""A store in object storage, whose writers do not wait for one another: the slower one begins again.

Objects are named as the files of a folder are, except for models, which are named by their SHA-256, so that two
publications of one version never write the same object.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tagmask.cache import FOLDER, Cache
from tagmask.disk import write_fault
from tagmask.documents import Changed, Document
from tagmask.errors import BundleError
from tagmask.objects import Objects
from tagmask.store.records import Record, StoreUnreachable
from tagmask.store.storage import RECORD, record_name


class Bucket:
    """Storage at `url`, such as s3://bucket/prefix. Models are copied to the cache of this machine when needed."""

    def __init__(self, url: str) -> None:
        self._objects = Objects(url, StoreUnreachable)
        self._read: dict[str, Document] = {}
        self._models = Cache("models")

    @contextmanager
    def writing(self, create: bool = False) -> Iterator[None]:
        """Nothing to wait for or to make."""
        yield

    def versions(self) -> Iterator[str]:
        """Names of the versions that have a record."""
        for each in self._objects.list("bundles"):
            version, _, name = each["path"].removeprefix("bundles/").partition("/")
            if name == RECORD:
                yield version

    def read(self, name: str) -> Document | None:
        """A document; None if it does not exist. It is only transferred if it is not the one read last."""
        found = self._objects.read(name, self._read.get(name))
        if found is not None:
            self._read[name] = found
        return found

    def replace(self, name: str, data: bytes, now: Document | None) -> None:
        """Write a document whose content is `now`, None if it does not exist. Raises Changed if it is another."""
        self._objects.replace(name, data, now)

    def append(self, name: str, line: bytes) -> None:
        """Add a line to a document, which is written anew. The line must be new."""
        now = self.read(name)
        while now is None or line not in now.data:  # it is there already if the answer to an earlier attempt was lost
            try:
                return self.replace(name, (now.data if now else b"") + line, now)
            except Changed:
                now = self.read(name)

    def lines(self, name: str) -> Iterator[bytes]:
        """The lines of a document, none if it does not exist."""
        document = self.read(name)
        yield from document.data.splitlines(keepends=True) if document else ()

    def place(self, name: str) -> str:
        """What messages call the document."""
        return self._objects.place(name)

    def has_model(self, record: Record) -> bool:
        """Whether the model's object exists."""
        return self._objects.size(_model_name(record)) == record.bytes

    def model(self, record: Record) -> Path:
        """The model's copy in the cache. Raises BundleError if it is missing or damaged in the store."""
        if known := self._models.get(record.sha256):
            return known
        name = _model_name(record)
        document = self._objects.read(name)
        if document is None:
            raise BundleError(f"{self.place(name)}: does not exist; add the bundle again")
        digest = hashlib.sha256(document.data).hexdigest()
        if digest != record.sha256:
            raise BundleError(
                f"{self.place(name)}: SHA-256 is {digest}, expected {record.sha256}; remove that object, then add the "
                "bundle again"
            )
        try:
            return self._models.add(record.sha256, document.data)
        except OSError as fault:
            raise BundleError(f"{fault.filename}: {write_fault(fault)}, or name another one in {FOLDER}") from fault

    def write_model(self, record: Record, data: bytes) -> None:
        """Write the model, in place of a damaged one."""
        self._objects.write(_model_name(record), data)

    def withdraw(self, version: str) -> None:
        """Remove the record of a version, without which it does not exist."""
        self._objects.remove(record_name(version))

    def discard(self, version: str) -> None:
        """Remove the rest of a version that has no record."""
        self._objects.remove(*(each["path"] for each in self._objects.list(f"bundles/{version}")))


def _model_name(record: Record) -> str:
    return f"bundles/{record.version}/{record.sha256}.onnx"
