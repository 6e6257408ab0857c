"""Requests that Label Studio sends; only the fields that are used.

https://github.com/HumanSignal/label-studio-ml-backend (the API of a backend),
https://labelstud.io/guide/webhook_reference
"""

from typing import Annotated, Any

from pydantic import AwareDatetime, Field

from service.http.request_body import RequestModel

_MAX_TASKS = 10_000  # of a request; more than can be processed within its time limit
_MAX_CONFIG = 1_000_000  # characters of a labeling interface

Id = Annotated[int, Field(ge=0, lt=2**63)]
Time = Annotated[AwareDatetime, Field(strict=False)]


class Task(RequestModel):
    """A photo to label; `data` holds the fields that the labeling interface shows."""

    data: dict[str, Any]


class SetupRequest(RequestModel):
    """A project that connects, or whose labeling interface has changed."""

    config: str = Field(alias="schema", max_length=_MAX_CONFIG, description="the labeling interface, XML")


class PredictRequest(RequestModel):
    """Tasks of a project that need predictions."""

    tasks: list[Task] = Field(max_length=_MAX_TASKS)
    config: str = Field(alias="label_config", max_length=_MAX_CONFIG, description="the labeling interface, XML")


class Event(RequestModel):
    """Something that happened in Label Studio; `action` says what, and determines the other fields."""

    action: str


class Project(RequestModel):
    """The project of an event."""

    id: Id | None = None
    created_at: Time | None = None

    @property
    def name(self) -> str | None:
        """What tells it from the projects of other Label Studios with the same id; None if that is not known."""
        return f"{self.id or 0}-{self.created_at.isoformat()}" if self.created_at else None


class LabeledProject(Project):
    """The project of annotations."""

    config: str = Field(alias="label_config", max_length=_MAX_CONFIG, description="the labeling interface, XML")


class Annotation(RequestModel):
    """An annotation of a task."""

    id: Id | None = None
    result: list[dict[str, Any]] | None
    was_cancelled: bool | None = Field(None, description="whether the task was skipped")
    updated_at: Time | None = None
    parent_prediction: Id | None = Field(None, description="the prediction that it was made from")


class AnnotatedTask(Task):
    """A task that was annotated."""

    id: Id = 0


class AnnotationEvent(Event):
    """A person created or updated an annotation."""

    annotation: Annotation
    task: AnnotatedTask
    project: LabeledProject


class AnnotationsEvent(Event):
    """Annotations were created at once; `task` has the task of each."""

    annotation: list[Annotation]
    task: list[AnnotatedTask]
    project: LabeledProject


class Deleted(RequestModel):
    """A task or annotation that was deleted."""

    id: Id


class DeletionEvent(Event):
    """Tasks or annotations were deleted."""

    annotations: list[Deleted] = Field(default_factory=list)
    annotation: Deleted | None = None
    tasks: list[Deleted] = Field(default_factory=list)
    project: Project = Project()
