"""Photos with tags sent by clients, in a folder that training reads directly (layout `samples`).

INBOX/<aa>/<sha256>.jpg    the bytes as received, with the suffix of their media type; <aa> begins their SHA-256
INBOX/<aa>/<sha256>.json   {"image": "<sha256>.jpg", "tags": ["cat"], …}; written last: a photo without it is no sample
INBOX/<aa>/<sha256>.correction.png   what a person says about its pixels, if anyone does: tagmask/corrections.py

The tag "background", alone, says that the photo shows nothing. Tags are sent by clients, or given by annotations, which
can take them back. A sample with annotations also has "sent", a list, and "annotations", a list for each by its key;
"tags" are all of these. A sample whose tags were all taken back keeps its photo, but is not learned from. A sample has
one correction, the newest; it is taken back with the annotation that its text chunk "annotation" names, if any.

INBOX/.forgotten/<sha256>  an empty file for each sample that was forgotten, which is not stored again

INBOX may also be a prefix in object storage, in which corrections have other names: tagmask/inbox/bucket.py. Writers to
a folder take turns by locks. In object storage, where there are none, each reads a sample, checks that what it is about
to write is still valid, and writes the sample on condition that it is the one that was read.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from tagmask.corrections import Correction
from tagmask.disk import FULL
from tagmask.documents import Changed
from tagmask.errors import Internal, ObjectStorageError, Unprocessable
from tagmask.files import decode_png
from tagmask.inbox.annotations import Annotation, Annotations, Noted, Superseded
from tagmask.inbox.bucket import Bucket
from tagmask.inbox.folder import Folder, disk_full
from tagmask.inbox.records import Sample, check_tags, new_record, retag
from tagmask.inbox.storage import CORRECTION_SUFFIX, Files, Storage, Stored
from tagmask.inputs import Location
from tagmask.masks import MAX_CLASSES
from tagmask.sample_set import check_id

__all__ = ["CORRECTION_SUFFIX", "Annotation", "Inbox", "Sample", "check_tags", "forgotten_samples"]

_MAX_TAGS = MAX_CLASSES  # of a sample, over all its requests: the classes that fit an 8-bit mask


def forgotten_samples(inbox: Location) -> Iterator[str]:
    """The samples that the inbox at `inbox` has forgotten, sorted. Raises ObjectStorageError."""
    return _storage(inbox, 0).forgotten()


def _storage(root: Location, min_free_bytes: int) -> Storage:
    return Folder(root, min_free_bytes) if isinstance(root, Path) else Bucket(root)


class Inbox:
    """A folder, or a URL such as s3://bucket/prefix, that any number of threads and processes may add samples to."""

    def __init__(self, root: Location, min_free_bytes: int) -> None:
        """Make the folder. Samples leave `min_free_bytes` of its disk free. Raises StartError if it cannot be used."""
        self._min_free_bytes = min_free_bytes
        self._storage = _storage(root, min_free_bytes)
        self._storage.check()
        self._annotations = Annotations(self._storage)

    def add(
        self,
        data: bytes,
        tags: Sequence[str],
        media_type: str,
        size: tuple[int, int],
        source: str | None = None,
        correction: Correction | None = None,
    ) -> Sample:
        """Store the photo `data`, displayed at `size` (H, W) pixels, with its tags; on return both are durable.

        The same bytes again stay one sample, with the tags of both requests. A `correction` replaces the one that the
        sample has, or removes it if it says nothing. `source` names the request. Raises Unprocessable for tags that no
        model can learn and for a photo that was forgotten, UnsupportedType for other media types, StorageFull, and
        Internal if the inbox cannot be written.
        """
        checked, record = check_tags(tags), new_record(data, media_type, size, source)
        with self._clear_errors():
            return self._store(record, data, checked, correction)

    def annotate(
        self,
        annotation: Annotation,
        data: bytes,
        tags: Sequence[str],
        media_type: str,
        size: tuple[int, int],
        source: str | None = None,
        correction: Correction | None = None,
    ) -> Sample | None:
        """Store a photo as `add` does, with tags that replace all those that the `annotation` gave before.

        Without a `correction`, one that the annotation gave before is removed.

        Returns None, and gives no tags, if a newer state of the annotation is known, or if it was deleted.
        """
        checked, record = check_tags(tags), new_record(data, media_type, size, source)
        with self._clear_errors(), suppress(Superseded), self._storage.changing_annotations():
            self._annotations.check_newest(annotation)
            if created := not self._storage.read(record["sha256"]).record:
                self._store(record, data, (), None)  # so that tags taken back meanwhile have a sample
            noted = self._annotations.note(annotation, record["sha256"])
            self._take_back(annotation.key, noted.samples - {record["sha256"]}, noted)
            return replace(self._store(record, data, checked, correction, noted), created=created)
        return None

    def clear(self, annotation: Annotation) -> list[Sample] | None:
        """Take back the tags of an annotation that no longer gives any; returns the samples that had some.

        Returns None, and changes nothing, if a newer state of the annotation is known, or if it was deleted. Raises
        StorageFull, and Internal if the inbox cannot be written.
        """
        with self._clear_errors(), suppress(Superseded), self._storage.changing_annotations():
            noted = self._annotations.note(annotation, None)
            return self._take_back(annotation.key, noted.samples, noted)
        return None

    def delete(
        self, project: str | None, annotations: Collection[int] = (), tasks: Collection[int] = ()
    ) -> list[Sample]:
        """Take back the tags of these annotations, and of all those of these tasks, of any project if it is None.

        Returns the samples that had some. States that are reported later are ignored. Raises StorageFull, and Internal
        if the inbox cannot be written.
        """
        with self._clear_errors(), self._storage.changing_annotations():
            tagged = self._annotations.delete(project, annotations, tasks)
            return [sample for key, names in tagged.items() for sample in self._take_back(key, names)]

    def has(self, sample: str) -> bool:
        """Whether a sample is stored, or was forgotten. Raises NotFound for what is no id, and Internal."""
        check_id(sample)
        with self._clear_errors():
            return self._storage.is_forgotten(sample) or self._storage.has(sample)

    def forget(self, sample: str) -> None:
        """Remove a sample, if it is stored, and never store it again; on return that is durable.

        After an interruption, another call finishes it. Raises NotFound for what is no id, and Internal if the inbox
        cannot be written.
        """
        check_id(sample)
        with self._clear_errors(), self._storage.changing(sample):
            self._storage.forget(sample)  # first, so that no listing has it, whatever is left of it
            self._storage.remove(sample)

    def _take_back(self, annotation: str, names: Iterable[str], noted: Noted | None = None) -> list[Sample]:
        """Remove the tags of an annotation from these samples, except those that they have from elsewhere too."""
        samples = (self._take_back_from(name, annotation, noted) for name in sorted(names))
        return [sample for sample in samples if sample]

    def _take_back_from(self, name: str, annotation: str, noted: Noted | None) -> Sample | None:
        while True:
            with suppress(Changed), self._storage.changing(name):
                stored = self._storage.read(name)
                if noted:
                    self._annotations.check_noted(noted)
                if not stored.record:
                    return None
                record, taken = retag(stored.record, (), annotation), self._given_by(name, stored) == annotation
                self._storage.write(name, Files(record, correction=b"" if taken else None), stored)
                return Sample(name, tuple(record["tags"]), False, stored.corrected and not taken)

    def _store(
        self,
        record: dict[str, Any],
        data: bytes,
        tags: Sequence[str],
        correction: Correction | None,
        noted: Noted | None = None,
    ) -> Sample:
        name, annotation = record["sha256"], noted.annotation.key if noted else None
        while True:
            with suppress(Changed), self._storage.changing(name):
                if self._storage.is_forgotten(name):
                    raise _forgotten()
                stored = self._storage.read(name)
                if noted:
                    self._annotations.check_noted(noted)
                merged = retag({**(stored.record or record), "image": record["image"]}, tags, annotation)
                if len(merged["tags"]) > _MAX_TAGS:
                    message = f"tags: the photo would have {len(merged['tags'])} tags, more than {_MAX_TAGS}; "
                    raise Unprocessable(f"{message}send fewer", code="bad_tags", field="tags", limit=_MAX_TAGS)
                photo = None if stored.record and self._storage.has_photo(name, record["image"]) else data
                corrected = self._corrected(name, stored, correction, annotation)
                self._storage.write(name, Files(merged, photo, corrected), stored)
                break
        if self._storage.is_forgotten(name):  # in object storage it may have been meanwhile
            self._storage.remove(name)
            raise _forgotten()
        has_correction = stored.corrected if corrected is None else bool(corrected)
        return Sample(name, tuple(merged["tags"]), not stored.record, has_correction)

    def _corrected(
        self, name: str, stored: Stored, correction: Correction | None, annotation: str | None
    ) -> bytes | None:
        """What is written as the correction: None to keep the one that there is, nothing to remove it."""
        if correction and not correction.says_nothing:
            return correction.encode({"annotation": annotation} if annotation else {})
        removed = correction or (annotation and self._given_by(name, stored) == annotation)
        return b"" if removed else None

    def _given_by(self, sample: str, stored: Stored) -> str | None:
        """The annotation that gave a correction; None if it was sent, there is none, or others damaged it."""
        data = self._storage.correction(sample, stored)
        try:
            return decode_png(data).text.get("annotation") if data else None
        except ValueError:
            return None

    @contextmanager
    def _clear_errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ObjectStorageError) as fault:
            if isinstance(fault, OSError) and fault.errno in FULL:
                raise disk_full("is full", self._min_free_bytes) from fault
            message = "the inbox could not be written; try again later, or contact the operator of the service"
            raise Internal(message, code="inbox_unwritable") from fault


def _forgotten() -> Unprocessable:
    message = "image: this photo was forgotten, and is not accepted again; send another one"
    return Unprocessable(message, code="forgotten", field="image")
