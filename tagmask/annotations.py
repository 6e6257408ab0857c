"""The newest states of the annotations that gave an inbox its tags.

A labeling tool may report the states of an annotation late, repeatedly and in any order. Samples only hold the tags;
what else is needed to know the newest state is in one file per project, INBOX/.annotations/<project>.json. It is
written before the samples, so that a report that is repeated after an interruption is carried out to its end.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, Field, ValidationError

from tagmask.files import UnfitFileError, atomic_write, locked, read_bytes

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


class Annotations:
    """The states of an inbox's annotations. Call methods inside `locked`; all raise OSError."""

    def __init__(self, inbox: Path) -> None:
        self._root = inbox / ".annotations"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Let no one else change annotations."""
        self._root.mkdir(exist_ok=True)
        with locked(self._root / ".lock"):
            yield

    def update(self, annotation: Annotation, sample: str | None) -> set[str] | None:
        """Note this state, which gives tags to `sample`, if to any.

        Returns the samples that may have tags of the annotation, or None if a newer state is known or it was deleted.
        """
        project = annotation.project or _UNKNOWN
        states = self._read(project)
        known = states.annotations.get(annotation.id, _State(task=annotation.task))
        if any(each.deleted(annotation) for each in (states, self._read(_UNKNOWN))):
            return None
        if known.updated and annotation.updated and annotation.updated < known.updated:
            return None
        samples = known.samples | ({sample} if sample else set())
        states.annotations[annotation.id] = _State(
            task=annotation.task, updated=annotation.updated or known.updated, samples=samples
        )
        self._write(project, states)
        return samples

    def delete(self, project: str | None, annotations: Collection[int], tasks: Collection[int]) -> dict[str, set[str]]:
        """Note that these annotations, and all those of these tasks, were deleted: of any project if it is None.

        Returns the samples that may have their tags, by the key of the annotation.
        """
        samples = {}
        for name in [project] if project else sorted({_UNKNOWN, *(path.stem for path in self._root.glob("*.json"))}):
            states = self._read(name)
            states.deleted_tasks.update(tasks)
            states.deleted_annotations.update(annotations)
            for number, state in states.annotations.items():
                if number in annotations or state.task in tasks:
                    samples[_key(name, number)] = state.samples
            self._write(name, states)
        return samples

    def _read(self, project: str) -> "_States":
        """Nothing is known if the file is new, or damaged by others."""
        try:
            return _States.model_validate_json(read_bytes(self._path(project)))
        except (FileNotFoundError, UnfitFileError, ValidationError):
            return _States()

    def _write(self, project: str, states: "_States") -> None:
        with atomic_write(self._path(project), mode=None, durable=True, temporary=self._root / ".part") as file:
            file.write(states.model_dump_json(exclude_defaults=True).encode())

    def _path(self, project: str) -> Path:
        return self._root / f"{project}.json"


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
