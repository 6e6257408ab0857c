"""What Label Studio sends; as much of it as is of use.

https://github.com/HumanSignal/label-studio-ml-backend (the API that a backend has),
https://labelstud.io/guide/webhook_reference
"""

from typing import Any

from pydantic import Field

from service.http.request_body import Document

MAX_TASKS = 10_000
"""Tasks of a request; more than can be painted in its time."""

MAX_CONFIG = 1_000_000
"""Characters of a labelling interface."""


class Task(Document):
    """A photo to label; `data` has by field what the labelling interface shows."""

    data: dict[str, Any]


class SetupRequest(Document):
    """A project that connects, or whose labelling interface has changed."""

    config: str = Field(alias="schema", max_length=MAX_CONFIG, description="the labelling interface, XML")


class PredictRequest(Document):
    """Tasks of a project for which predictions are wanted."""

    tasks: list[Task] = Field(max_length=MAX_TASKS)
    config: str = Field(alias="label_config", max_length=MAX_CONFIG, description="the labelling interface, XML")


class Event(Document):
    """Something that has happened in Label Studio; `action` says what, and which other fields there are."""

    action: str


class Annotation(Document):
    """What a person has said of a task."""

    result: list[dict[str, Any]] | None
    was_cancelled: bool | None = Field(None, description="whether the task was skipped")


class Project(Document):
    """The project of a task."""

    config: str = Field(alias="label_config", max_length=MAX_CONFIG, description="the labelling interface, XML")


class AnnotationEvent(Event):
    """A task that somebody has annotated."""

    annotation: Annotation
    task: Task
    project: Project
