"""What a store asks of the place that it is kept in: a folder, or a prefix in object storage."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from tagmask.documents import Document
from tagmask.store.records import Record

RECORD = "record.json"


class Storage(Protocol):
    """Documents by name, such as "champion.json", and models by their records.

    All methods raise BundleError for what cannot be read, and StoreUnwritable for what cannot be written.
    """

    def writing(self, create: bool = False) -> AbstractContextManager[None]:
        """The context of every change; a folder admits one writer at a time, and `create` makes it."""

    def versions(self) -> Iterator[str]:
        """Names of the versions that have a record."""

    def read(self, name: str) -> Document | None:
        """A document; None if it does not exist."""

    def replace(self, name: str, data: bytes, now: Document | None) -> None:
        """Write a document whose content is `now`, None if it does not exist. Raises Changed if it is another."""

    def append(self, name: str, line: bytes) -> None:
        """Add a line to a document."""

    def lines(self, name: str) -> Iterator[bytes]:
        """The lines of a document, none if it does not exist."""

    def place(self, name: str) -> str:
        """What messages call the document."""

    def has_model(self, record: Record) -> bool:
        """Whether the model's file exists, even if damaged."""

    def model(self, record: Record) -> Path:
        """The model as a file of this machine."""

    def write_model(self, record: Record, data: bytes) -> None:
        """Write the model, in place of a damaged one."""

    def withdraw(self, version: str) -> None:
        """Remove the record of a version, without which it does not exist."""

    def discard(self, version: str) -> None:
        """Remove the rest of a version that has no record."""


def record_name(version: str) -> str:
    """The document with the record of `version`."""
    return f"bundles/{version}/{RECORD}"
