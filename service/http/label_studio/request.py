"""Requests that Label Studio sends; only the fields that are used.

https://github.com/HumanSignal/label-studio-ml-backend (the API of a backend),
https://labelstud.io/guide/webhook_reference
"""

from typing import Any

from pydantic import Field

from service.http.request_body import RequestModel

_MAX_TASKS = 10_000  # of a request; more than can be processed within its time limit
_MAX_CONFIG = 1_000_000  # characters of a labeling interface


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


class Annotation(RequestModel):
    """A person's annotation of a task."""

    result: list[dict[str, Any]] | None
    was_cancelled: bool | None = Field(None, description="whether the task was skipped")


class Project(RequestModel):
    """The project of a task."""

    config: str = Field(alias="label_config", max_length=_MAX_CONFIG, description="the labeling interface, XML")


class AnnotationEvent(Event):
    """A task that was annotated."""

    annotation: Annotation
    task: Task
    project: Project
