"""A store in object storage, whose writers do not wait for one another: the slower one begins again.

Objects are named as the files of a folder are, except for models, which are named by their SHA-256, so that two
publications of one version never write the same object.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tagmask.cache import FOLDER, Cache
from tagmask.disk import write_fault
from tagmask.errors import BundleError, ObjectStorageError
from tagmask.objects import clear_errors, open_objects
from tagmask.store.records import Record, StoreUnreachable
from tagmask.store.storage import RECORD, Changed, Document, record_name

if TYPE_CHECKING:
    from obstore import PutMode


class Bucket:
    """Storage at `url`, such as s3://bucket/prefix. Models are copied to the cache of this machine when needed."""

    def __init__(self, url: str) -> None:
        self.root = url.rstrip("/")
        self._objects = open_objects(self.root)
        self._read: dict[str, Document] = {}
        self._models = Cache("models")

    @contextmanager
    def writing(self, create: bool = False) -> Iterator[None]:
        """Nothing to wait for or to make."""
        yield

    def versions(self) -> Iterator[str]:
        """Names of the versions that have a record."""
        import obstore

        with self._clear_errors("bundles"):
            for objects in obstore.list(self._objects, "bundles"):
                for each in objects:
                    version, _, name = each["path"].removeprefix("bundles/").partition("/")
                    if name == RECORD:
                        yield version

    def read(self, name: str) -> Document | None:
        """A document; None if it does not exist. It is only transferred if it is not the one read last."""
        import obstore
        from obstore.exceptions import NotModifiedError

        known = self._read.get(name)
        try:
            with self._clear_errors(name):
                found = obstore.get(self._objects, name, options={"if_none_match": known.tag} if known else {})
                known = Document(bytes(found.bytes()), found.meta["e_tag"] or "")
        except FileNotFoundError:
            return None
        except NotModifiedError:
            return known
        self._read[name] = known
        return known

    def replace(self, name: str, data: bytes, now: Document | None) -> None:
        """Write a document whose content is `now`, None if it does not exist. Raises Changed if it is another."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        modes: list[PutMode] = ["create"]
        if now is not None:  # Ceph 16 compares the tag with its quotes, and finds no match
            modes = [{"e_tag": now.tag}, {"e_tag": now.tag.strip('"')}]
        for mode in modes:
            try:
                with self._clear_errors(name):
                    obstore.put(self._objects, name, data, mode=mode)
                    return
            except (AlreadyExistsError, PreconditionError):
                found = self.read(name)
                if found is not None and found.data == data:
                    return  # the answer to an earlier attempt was lost
                if found != now:
                    break
        raise Changed

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
        return f"{self.root}/{name}"

    def has_model(self, record: Record) -> bool:
        """Whether the model's object exists."""
        import obstore

        try:
            with self._clear_errors(_model_name(record)):
                return obstore.head(self._objects, _model_name(record))["size"] == record.bytes
        except FileNotFoundError:
            return False

    def model(self, record: Record) -> Path:
        """The model's copy in the cache. Raises BundleError if it is missing or damaged in the store."""
        import obstore

        if known := self._models.get(record.sha256):
            return known
        name = _model_name(record)
        try:
            with self._clear_errors(name):
                data = bytes(obstore.get(self._objects, name).bytes())
        except FileNotFoundError as fault:
            raise BundleError(f"{self.place(name)}: does not exist; add the bundle again") from fault
        digest = hashlib.sha256(data).hexdigest()
        if digest != record.sha256:
            raise BundleError(
                f"{self.place(name)}: SHA-256 is {digest}, expected {record.sha256}; remove that object, then add the "
                "bundle again"
            )
        try:
            return self._models.add(record.sha256, data)
        except OSError as fault:
            raise BundleError(f"{fault.filename}: {write_fault(fault)}, or name another one in {FOLDER}") from fault

    def write_model(self, record: Record, data: bytes) -> None:
        """Write the model, in place of a damaged one."""
        import obstore

        with self._clear_errors(_model_name(record)):
            obstore.put(self._objects, _model_name(record), data)

    def withdraw(self, version: str) -> None:
        """Remove the record of a version, without which it does not exist."""
        import obstore

        with self._clear_errors(record_name(version)):
            obstore.delete(self._objects, record_name(version))

    def discard(self, version: str) -> None:
        """Remove the rest of a version that has no record."""
        import obstore

        with self._clear_errors(f"bundles/{version}"):
            for objects in obstore.list(self._objects, f"bundles/{version}"):
                obstore.delete(self._objects, [each["path"] for each in objects])

    @contextmanager
    def _clear_errors(self, name: str) -> Iterator[None]:
        try:
            with clear_errors(self.place(name)):
                yield
        except ObjectStorageError as fault:
            raise StoreUnreachable(str(fault)) from fault


def _model_name(record: Record) -> str:
    return f"bundles/{record.version}/{record.sha256}.onnx"
