"""The newest states of the annotations that gave an inbox its tags.

A labeling tool may report the states of an annotation late, repeatedly and in any order. Samples only hold the tags;
what else is needed to know the newest state is in one file per project, INBOX/.annotations/<project>.json. It is
written before the samples, so that a report that is repeated after an interruption is carried out to its end.

In object storage, a slower writer must not undo what a faster one has written. Whoever changes a sample for a state
reads the sample, checks that the state is still the newest, and writes the sample if it is the one that was read.
"""

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath

from pydantic import AwareDatetime, BaseModel, Field, ValidationError

from tagmask.documents import Changed, Document
from tagmask.inbox.storage import Storage

_FOLDER = ".annotations"
_UNKNOWN = "unknown"  # the project of what is reported without one


@dataclass(frozen=True)
class Annotation:
    """A state of an annotation: its id, its task, its `project` as a file name, and when it was `updated`, if known."""

    id: int
    task: int
    project: str | None = None
    updated: datetime | None = None

    @property
    def key(self) -> str:
        """The annotation, whatever its state, among all of an inbox."""
        return _key(self.project or _UNKNOWN, self.id)


class Superseded(Exception):  # noqa: N818  # caught by the writer, who has nothing to write then
    """A newer state of the annotation is known, or it was deleted."""


@dataclass(frozen=True)
class Noted:
    """The `state` of an `annotation` that was noted."""

    annotation: Annotation
    state: "_State"

    @property
    def samples(self) -> set[str]:
        """The samples that may have tags of this state, or of former ones."""
        return self.state.samples


class Annotations:
    """The states of the annotations of an inbox, in documents of its storage, whose errors all methods raise.

    Call methods inside its `changing_annotations`.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def check_newest(self, annotation: Annotation) -> None:
        """Raise Superseded if a newer state than this is known, or the annotation was deleted."""
        self._known(annotation, _parse(self._read(annotation.project)))

    def note(self, annotation: Annotation, sample: str | None) -> Noted:
        """Note this state, which gives tags to `sample`, if to any. Raises Superseded as `check_newest` does."""
        while True:
            document = self._read(annotation.project)
            states = _parse(document)
            known = self._known(annotation, states)
            state = _State(
                task=annotation.task,
                updated=annotation.updated or known.updated,
                samples=known.samples | ({sample} if sample else set()),
            )
            states.annotations[annotation.id] = state
            with suppress(Changed):
                self._write(annotation.project, states, document)
                return Noted(annotation, state)

    def check_noted(self, noted: Noted) -> None:
        """Raise Superseded if another state was noted since, as may be in object storage."""
        states = _parse(self._read(noted.annotation.project))
        if self._known(noted.annotation, states) != noted.state:
            raise Superseded

    def delete(self, project: str | None, annotations: Collection[int], tasks: Collection[int]) -> dict[str, set[str]]:
        """Note that these annotations, and all those of these tasks, were deleted: of any project if it is None.

        Returns the samples that may have their tags, by the key of the annotation.
        """
        if project:
            return self._delete(project, annotations, tasks)
        samples = self._delete(_UNKNOWN, annotations, tasks)  # first: a new project's writers look there
        for name in sorted(self._storage.documents(_FOLDER)):
            samples |= self._delete(PurePosixPath(name).stem, annotations, tasks)
        return samples

    def _delete(self, project: str, annotations: Collection[int], tasks: Collection[int]) -> dict[str, set[str]]:
        while True:
            document = self._read(project)
            states = _parse(document)
            states.deleted_tasks.update(tasks)
            states.deleted_annotations.update(annotations)
            samples = {}
            for number, state in states.annotations.items():
                if number in annotations or state.task in tasks:
                    samples[_key(project, number)] = state.samples
            with suppress(Changed):
                self._write(project, states, document)
                return samples

    def _known(self, annotation: Annotation, states: "_States") -> "_State":
        """What is known of the annotation. Raises Superseded as `check_newest` does."""
        known = states.annotations.get(annotation.id, _State(task=annotation.task))
        if any(each.deleted(annotation) for each in (states, _parse(self._read(_UNKNOWN)))):
            raise Superseded
        if known.updated and annotation.updated and annotation.updated < known.updated:
            raise Superseded
        return known

    def _read(self, project: str | None) -> Document | None:
        return self._storage.read_document(_name(project))

    def _write(self, project: str | None, states: "_States", now: Document | None) -> None:
        data = states.model_dump_json(exclude_defaults=True).encode()
        self._storage.replace_document(_name(project), data, now)


class _State(BaseModel):
    """The newest state of an annotation; `samples`, by SHA-256, had tags of this or of former ones."""

    task: int
    updated: AwareDatetime | None = None
    samples: set[str] = Field(default_factory=set)


class _States(BaseModel):
    """The annotations of a project by id."""

    annotations: dict[int, _State] = Field(default_factory=dict)
    deleted_annotations: set[int] = Field(default_factory=set)
    deleted_tasks: set[int] = Field(default_factory=set)

    def deleted(self, annotation: Annotation) -> bool:
        """Whether it or its task was deleted."""
        return annotation.id in self.deleted_annotations or annotation.task in self.deleted_tasks


def _key(project: str, number: int) -> str:
    return f"{project}/{number}"


def _name(project: str | None) -> str:
    return f"{_FOLDER}/{project or _UNKNOWN}.json"


def _parse(document: Document | None) -> _States:
    """Nothing is known if the document is new, or damaged by others."""
    try:
        return _States.model_validate_json(document.data) if document else _States()
    except ValidationError:
        return _States()
