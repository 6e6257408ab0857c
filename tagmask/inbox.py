"""Photos with tags sent by clients, in a folder that training reads directly (layout `samples`).

INBOX/<aa>/<sha256>.jpg    the bytes as received, with the suffix of their media type; <aa> begins their SHA-256
INBOX/<aa>/<sha256>.json   {"image": "<sha256>.jpg", "tags": ["cat"], …}; written last: a photo without it is no sample
INBOX/<aa>/<sha256>.correction.png   what a person says about its pixels, if anyone does: tagmask/corrections.py

The tag "background", alone, says that the photo shows nothing. Tags are sent by clients, or given by annotations, which
can take them back. A sample with annotations also has "sent", a list, and "annotations", a list for each by its key;
"tags" are all of these. A sample whose tags were all taken back keeps its photo, but is not learned from. A sample has
one correction, the newest; it is taken back with the annotation that its text chunk "annotation" names, if any.

INBOX/.forgotten/<sha256>  an empty file for each sample that was forgotten, which is not stored again

One writer at a time holds <aa>/.lock and writes <aa>/.part, which is renamed once it is on the disk.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from tagmask.annotations import Annotation, Annotations
from tagmask.classes import MAX_LENGTH, class_key, class_name, class_name_fault, merge_tags
from tagmask.corrections import Correction
from tagmask.errors import Internal, StartError, StorageFull, Unprocessable, UnsupportedType
from tagmask.files import UnfitFileError, atomic_write, locked, read_bytes, read_png, sync_folder
from tagmask.masks import BACKGROUND, MAX_CLASSES
from tagmask.photos import SUFFIXES
from tagmask.sample_set import SampleSet, check_id

CORRECTION_SUFFIX = ".correction.png"
"""What follows the SHA-256 of a sample in the name of its correction's file."""

_MAX_TAGS = MAX_CLASSES  # of a sample, over all its requests: the classes that fit an 8-bit mask
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Sample:
    """A stored photo: the SHA-256 of its bytes in hex, all its tags, sorted, whether it was new, and is corrected."""

    id: str
    tags: tuple[str, ...]
    created: bool
    corrected: bool = False


def forgotten_samples(inbox: Path) -> SampleSet:
    """The samples that the inbox at `inbox` has forgotten."""
    return SampleSet(inbox / ".forgotten")


class Inbox:
    """A folder of samples that any number of threads and processes may add to."""

    def __init__(self, root: Path, min_free_bytes: int) -> None:
        """Make the folder. Samples leave `min_free_bytes` of its disk free. Raises StartError if it cannot be used."""
        self._root = root
        self._min_free_bytes = min_free_bytes
        self._annotations = Annotations(root)
        self._forgotten = forgotten_samples(root)
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as fault:
            raise StartError(f"inbox {root}: cannot be created ({fault.strerror}); name another folder") from fault
        if not os.access(root, os.R_OK | os.W_OK | os.X_OK):
            raise StartError(f"inbox {root}: not writable; grant access to it, or name another folder")

    def add(
        self,
        data: bytes,
        tags: Sequence[str],
        media_type: str,
        size: tuple[int, int],
        source: str | None = None,
        correction: Correction | None = None,
    ) -> Sample:
        """Store the photo `data`, displayed at `size` (H, W) pixels, with its tags; on return both are on the disk.

        The same bytes again stay one sample, with the tags of both requests. A `correction` replaces the one that the
        sample has, or removes it if it says nothing. `source` names the request. Raises Unprocessable for tags that no
        model can learn and for a photo that was forgotten, UnsupportedType for other media types, StorageFull, and
        Internal if the folder cannot be written.
        """
        checked, record = check_tags(tags), _new_record(data, media_type, size, source)
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

        Returns None, and stores nothing, if a newer state of the annotation is known, or if it was deleted.
        """
        checked, record = check_tags(tags), _new_record(data, media_type, size, source)
        with self._clear_errors(), self._annotations.locked():
            tagged = self._annotations.update(annotation, record["sha256"])
            if tagged is None:
                return None
            self._take_back(annotation.key, tagged - {record["sha256"]})
            return self._store(record, data, checked, correction, annotation.key)

    def clear(self, annotation: Annotation) -> list[Sample] | None:
        """Take back the tags of an annotation that gives none any more; returns the samples that had some.

        Returns None, and changes nothing, if a newer state of the annotation is known, or if it was deleted. Raises
        StorageFull, and Internal if the folder cannot be written.
        """
        with self._clear_errors(), self._annotations.locked():
            tagged = self._annotations.update(annotation, None)
            return None if tagged is None else self._take_back(annotation.key, tagged)

    def delete(
        self, project: str | None, annotations: Collection[int] = (), tasks: Collection[int] = ()
    ) -> list[Sample]:
        """Take back the tags of these annotations, and of all those of these tasks, of any project if it is None.

        Returns the samples that had some. States that are reported later are ignored. Raises StorageFull, and Internal
        if the folder cannot be written.
        """
        with self._clear_errors(), self._annotations.locked():
            tagged = self._annotations.delete(project, annotations, tasks)
            return [sample for key, names in tagged.items() for sample in self._take_back(key, names)]

    def has(self, sample: str) -> bool:
        """Whether a sample is stored, or was forgotten. Raises NotFound for what is no id."""
        check_id(sample)
        return sample in self._forgotten or any((self._root / sample[:2]).glob(f"{sample}.*"))

    def forget(self, sample: str) -> None:
        """Remove a sample, if it is stored, and never store it again; on return that is on the disk.

        After an interruption, another call finishes it. Raises NotFound for what is no id, and Internal if the folder
        cannot be written.
        """
        check_id(sample)
        with self._clear_errors(), _locked_folder(self._root / sample[:2]) as folder:
            self._forgotten.add(sample)  # first, so that no listing has it, whatever is left of it
            for path in sorted(folder.glob(f"{sample}.*"), key=lambda path: path.suffix != ".json"):
                path.unlink()
            sync_folder(folder)

    def _take_back(self, annotation: str, names: Iterable[str]) -> list[Sample]:
        """Remove the tags of an annotation from these samples, except those that they have from elsewhere too."""
        samples = []
        for name in sorted(names):
            with _locked_folder(self._root / name[:2]) as folder:
                path, corrected = folder / f"{name}.json", folder / f"{name}{CORRECTION_SUFFIX}"
                if _given_by(corrected) == annotation:
                    corrected.unlink()
                if known := _read(path):
                    record = _retag(known, (), annotation)
                    self._write(folder, {path: _json(record)} if record != known else {})
                    samples.append(Sample(name, tuple(record["tags"]), False, corrected.is_file()))
        return samples

    def _store(
        self,
        record: dict[str, Any],
        data: bytes,
        tags: Sequence[str],
        correction: Correction | None,
        annotation: str | None = None,
    ) -> Sample:
        with _locked_folder(self._root / record["sha256"][:2]) as folder:
            if record["sha256"] in self._forgotten:
                message = "image: this photo was forgotten, and is not accepted again; send another one"
                raise Unprocessable(message, code="forgotten", field="image")
            photo, description = folder / record["image"], folder / f"{record['sha256']}.json"
            corrected = folder / f"{record['sha256']}{CORRECTION_SUFFIX}"
            known = _read(description)
            merged = _retag({**(known or record), "image": photo.name}, tags, annotation)
            if len(merged["tags"]) > _MAX_TAGS:
                message = f"tags: the photo would have {len(merged['tags'])} tags, more than {_MAX_TAGS}; send fewer"
                raise Unprocessable(message, code="bad_tags", field="tags", limit=_MAX_TAGS)
            files: dict[Path, bytes] = {}
            if not (known and photo.is_file()):
                files[photo] = data
            if correction and not correction.says_nothing:
                files[corrected] = correction.encode({"annotation": annotation} if annotation else {})
            if merged != known:
                files[description] = _json(merged)
            if files:
                self._check_space(sum(map(len, files.values())))
            try:
                if corrected not in files and (correction or (annotation and _given_by(corrected) == annotation)):
                    corrected.unlink(missing_ok=True)
                self._write(folder, files)
            except OSError:
                if not known:
                    with suppress(OSError):
                        for path in (corrected, photo):
                            path.unlink(missing_ok=True)
                raise
            return Sample(record["sha256"], tuple(merged["tags"]), not known, corrected.is_file())

    def _write(self, folder: Path, files: Mapping[Path, bytes]) -> None:
        for path, content in files.items():
            with atomic_write(path, mode=None, temporary=folder / ".part") as file:
                file.write(content)
        # Also if nothing is new: the first writer of the sample may have been killed before this.
        for path in (folder, self._root):
            sync_folder(path)

    @contextmanager
    def _clear_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as fault:
            if fault.errno in _FULL:
                raise self._full("is full") from fault
            message = "the inbox could not be written; try again later, or contact the operator of the service"
            raise Internal(message, code="inbox_unwritable") from fault

    def _check_space(self, size: int) -> None:
        free = shutil.disk_usage(self._root).free
        if free - size < self._min_free_bytes:
            raise self._full(f"has {free:,} bytes free, and {self._min_free_bytes:,} must stay free")

    def _full(self, state: str) -> StorageFull:
        message = f"the disk for samples {state}; send the photo again when the operator of the service has freed space"
        return StorageFull(message, limit=self._min_free_bytes)


def check_tags(tags: Sequence[str]) -> tuple[str, ...]:
    """The tags as class names, sorted, each class once, if a model can learn them all; new classes are allowed.

    "background" alone is allowed, for a photo that shows nothing. Raises Unprocessable, naming the tag and the rule
    that it breaks, and for no tag at all.
    """
    names = [class_name(tag) for tag in ((tags,) if isinstance(tags, str) else tags)]
    if not names:
        message = "tags: missing; name at least one class in the photo, or send background if it shows none"
        raise Unprocessable(message, code="bad_tags", field="tags")
    if BACKGROUND in map(class_key, names):
        if len(set(map(class_key, names))) > 1:
            message = "tags: background says that the photo shows none of the classes; send it alone, or leave it out"
            raise Unprocessable(message, code="bad_tags", field="tags")
        return (BACKGROUND,)
    for name in names:
        if fault := class_name_fault(name):
            limit = MAX_LENGTH if len(name) > MAX_LENGTH else None
            message = f"tags: tag {name[:MAX_LENGTH]!r} {fault}"
            raise Unprocessable(message, code="bad_tags", field="tags", limit=limit)
    return tuple(sorted({class_key(name): name for name in reversed(names)}.values()))


def _new_record(data: bytes, media_type: str, size: tuple[int, int], source: str | None) -> dict[str, Any]:
    if media_type not in SUFFIXES:
        known = ", ".join(SUFFIXES)
        message = f"image: {media_type} is not supported; convert the photo to one of {known}"
        raise UnsupportedType(message, field="image", limit=known)
    name = hashlib.sha256(data).hexdigest()
    return {
        "image": name + SUFFIXES[media_type],
        "tags": [],
        "sha256": name,
        "media_type": media_type,
        "width": size[1],
        "height": size[0],
        "received": datetime.now(UTC).isoformat(timespec="seconds"),
        **({"source": source} if source else {}),
    }


def _retag(record: Mapping[str, Any], tags: Sequence[str], annotation: str | None) -> dict[str, Any]:
    """The record with these tags as well or, if they are those of an `annotation`, in place of its former ones.

    A class is spelled as it was first.
    """
    sent = [*record.get("sent", record["tags"]), *(tags if annotation is None else ())]
    annotations = dict(record.get("annotations", {}))
    if annotation is not None:
        annotations[annotation] = tags
    first: dict[str, str] = {}
    for tag in chain(record["tags"], sent, *annotations.values()):
        first.setdefault(class_key(tag), tag)

    def spelled(names: Iterable[str]) -> list[str]:
        return sorted({first[class_key(name)] for name in names})

    kept = {key: value for key, value in record.items() if key not in ("sent", "annotations")}
    kept["tags"] = list(merge_tags(spelled(chain(sent, *annotations.values()))))
    annotated = {key: spelled(names) for key, names in annotations.items() if names}
    return {**kept, "sent": spelled(sent), "annotations": annotated} if annotated else kept


def _json(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode() + b"\n"


@contextmanager
def _locked_folder(folder: Path) -> Iterator[Path]:
    """Be the only writer in `folder`, made if absent; the half-written file of a killed or failed one is removed."""
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".lock"):
        try:
            yield folder
        finally:
            (folder / ".part").unlink(missing_ok=True)


def _given_by(correction: Path) -> str | None:
    """The annotation that gave a correction; None if it was sent, there is none, or others damaged it."""
    try:
        return read_png(correction).text.get("annotation")
    except (OSError, ValueError):
        return None


class _Tags(BaseModel):
    """What a description must have of these forms."""

    tags: list[str]
    sent: list[str] = []
    annotations: dict[str, list[str]] = {}


def _read(path: Path) -> dict[str, Any] | None:
    """The description of a sample; None if it is new, or damaged by others."""
    try:
        data = read_bytes(path)
        _Tags.model_validate_json(data)
        return dict(json.loads(data))
    except (FileNotFoundError, UnfitFileError, ValueError):
        return None
