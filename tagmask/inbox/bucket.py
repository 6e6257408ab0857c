"""An inbox in object storage, whose writers do not wait for one another: the slower one begins again.

Objects are named as the files of a folder are, except for corrections, each of which has a name of its own that the
description states as "correction". So a sample changes as a whole, with its description, which is replaced on
condition that it is the one that was read. "revision" is new with each write, so that slower writers also notice one
that found nothing to change.

A writer that is killed may leave a photo without a description, which is written again with the next one, or a
correction that no description names. `forget` removes both.
"""

import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from itertools import takewhile
from typing import Any

from tagmask.documents import Changed, Document
from tagmask.errors import ObjectStorageError, StartError
from tagmask.inbox.records import decode, encode
from tagmask.inbox.storage import CORRECTION_SUFFIX, FORGOTTEN, Files, Stored, description_name
from tagmask.objects import Objects

_CORRECTION = "correction"
_PATIENCE = timedelta(seconds=10)  # less than a client of the service waits


class Bucket:
    """Samples below `url`, such as s3://bucket/prefix. What is written is durable when the storage has answered."""

    def __init__(self, url: str) -> None:
        self._objects = Objects(url, patience=_PATIENCE)

    def check(self) -> None:
        """Raise StartError if the objects cannot be listed."""
        try:
            next(self._objects.list(FORGOTTEN), None)
        except ObjectStorageError as fault:
            raise StartError(f"inbox {fault}") from fault

    @contextmanager
    def changing(self, sample: str) -> Iterator[None]:
        """Nothing to wait for or to make."""
        yield

    @contextmanager
    def changing_annotations(self) -> Iterator[None]:
        """Nothing to wait for or to make."""
        yield

    def read(self, sample: str) -> Stored:
        """What there is of a sample."""
        document = self._objects.read(description_name(sample))
        record = decode(document.data) if document else None
        return Stored(record, document, correction_object(sample, record) is not None)

    def has_photo(self, sample: str, image: str) -> bool:
        """Whether the photo of a sample, called `image`, is there."""
        return self._objects.size(f"{sample[:2]}/{image}") is not None

    def correction(self, sample: str, stored: Stored) -> bytes | None:
        """The PNG of its correction, None without one."""
        name = correction_object(sample, stored.record)
        document = self._objects.read(name) if name else None
        return document.data if document else None

    def write(self, sample: str, files: Files, now: Stored) -> None:
        """Write a sample of which there is `now`. Raises Changed if there is something else by now."""
        record, old = {**files.record, "revision": secrets.token_hex(8)}, correction_object(sample, now.record)
        if files.photo is not None:
            self._objects.write(f"{sample[:2]}/{record['image']}", files.photo)
        if files.correction is not None:
            record.pop(_CORRECTION, None)
        if files.correction:
            record[_CORRECTION] = f"{sample}.{secrets.token_hex(8)}{CORRECTION_SUFFIX}"
            self._objects.write(f"{sample[:2]}/{record[_CORRECTION]}", files.correction)
        new = correction_object(sample, record)
        try:
            self._objects.replace(description_name(sample), encode(record), now.document)
        except Changed:
            if new and new != old:
                self._objects.remove(new)
            raise
        if old and old != new:
            self._objects.remove(old)

    def has(self, sample: str) -> bool:
        """Whether there is anything of a sample."""
        return next(self._names(sample), None) is not None

    def remove(self, sample: str) -> None:
        """Remove all that there is of a sample, its description first."""
        self._objects.remove(description_name(sample))
        self._objects.remove(*self._names(sample))

    def is_forgotten(self, sample: str) -> bool:
        """Whether a sample was forgotten."""
        return self._objects.size(f"{FORGOTTEN}/{sample}") is not None

    def forget(self, sample: str) -> None:
        """Note that a sample was forgotten."""
        self._objects.write(f"{FORGOTTEN}/{sample}", b"")

    def forgotten(self) -> Iterator[str]:
        """The samples that were forgotten, sorted."""
        yield from sorted(each["path"].rpartition("/")[2] for each in self._objects.list(FORGOTTEN))

    def read_document(self, name: str) -> Document | None:
        """A document; None if it does not exist."""
        return self._objects.read(name)

    def replace_document(self, name: str, data: bytes, now: Document | None) -> None:
        """Write a document whose content is `now`, None if it does not exist. Raises Changed if it is another."""
        self._objects.replace(name, data, now)

    def documents(self, folder: str) -> Iterator[str]:
        """Names of the documents in a folder."""
        return (each["path"] for each in self._objects.list(folder))

    def _names(self, sample: str) -> Iterator[str]:
        """Names of the objects of a sample, which begin alike, and so follow one another."""
        start = f"{sample[:2]}/{sample}"
        names = (each["path"] for each in self._objects.list(sample[:2], after=start))
        return takewhile(lambda name: name.startswith(f"{start}."), names)


def correction_object(sample: str, record: Mapping[str, Any] | None) -> str | None:
    """The object with the correction that the description of a sample names, None if it names none."""
    name = (record or {}).get(_CORRECTION)
    if not isinstance(name, str) or not re.fullmatch(rf"{sample}\.[0-9a-f]+{re.escape(CORRECTION_SUFFIX)}", name):
        return None
    return f"{sample[:2]}/{name}"
