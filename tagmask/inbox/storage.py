"""What an inbox asks of the place that it is kept in: a folder, or a prefix in object storage."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from tagmask.documents import Document

CORRECTION_SUFFIX = ".correction.png"
"""What follows the SHA-256 of a sample in the name of its correction's file."""

FORGOTTEN = ".forgotten"
"""The folder with an empty file for each sample that was forgotten."""


@dataclass(frozen=True)
class Stored:
    """What there is of a sample: the `record` that its description holds, and the `document` as it was read.

    `record` is None if the sample is new, or its description was damaged by others; `corrected` is whether it has a
    correction.
    """

    record: dict[str, Any] | None
    document: Document | None = None
    corrected: bool = False


@dataclass(frozen=True)
class Files:
    """What is written of a sample: its `record`, the bytes of its `photo`, and the PNG of its `correction`.

    None stays as it is; an empty `correction` removes the one that there is.
    """

    record: dict[str, Any]
    photo: bytes | None = None
    correction: bytes | None = None


class Storage(Protocol):
    """Samples by the SHA-256 of their photos, and documents by name, such as ".annotations/1.json".

    All methods raise OSError or ObjectStorageError.
    """

    def check(self) -> None:
        """Raise StartError if the inbox cannot be used; a folder is made."""

    def changing(self, sample: str) -> AbstractContextManager[None]:
        """The context of every change of a sample; a folder admits one writer at a time."""

    def changing_annotations(self) -> AbstractContextManager[None]:
        """The context of every change of what is known of annotations; a folder admits one writer at a time."""

    def read(self, sample: str) -> Stored:
        """What there is of a sample."""

    def has_photo(self, sample: str, image: str) -> bool:
        """Whether the photo of a sample, called `image`, is there."""

    def correction(self, sample: str, stored: Stored) -> bytes | None:
        """The PNG of its correction, None without one."""

    def write(self, sample: str, files: Files, now: Stored) -> None:
        """Write a sample of which there is `now`; it exists from when its description does, which is written last.

        Raises Changed if there is something else by now, and StorageFull if a folder's disk would be too full.
        """

    def has(self, sample: str) -> bool:
        """Whether there is anything of a sample."""

    def remove(self, sample: str) -> None:
        """Remove all that there is of a sample, its description first."""

    def is_forgotten(self, sample: str) -> bool:
        """Whether a sample was forgotten."""

    def forget(self, sample: str) -> None:
        """Note that a sample was forgotten."""

    def forgotten(self) -> Iterator[str]:
        """The samples that were forgotten, sorted."""

    def read_document(self, name: str) -> Document | None:
        """A document; None if it does not exist, or cannot be one."""

    def replace_document(self, name: str, data: bytes, now: Document | None) -> None:
        """Write a document whose content is `now`, None if it does not exist. Raises Changed if it is another."""

    def documents(self, folder: str) -> Iterator[str]:
        """Names of the documents in a folder such as ".annotations"."""


def description_name(sample: str) -> str:
    """The document with the description of a sample."""
    return f"{sample[:2]}/{sample}.json"
