"""Responses to Label Studio."""

from typing import Literal

from pydantic import BaseModel, RootModel

from service.http.problems import FailedItem
from tagmask.formats.label_studio import LabelStudioPrediction
from tagmask.inbox import Sample


class HealthResponse(BaseModel):
    """The service responds."""

    status: Literal["UP"]
    model_class: str


class SetupResponse(BaseModel):
    """The version of the model that will answer."""

    model_version: str


class PredictResponse(BaseModel):
    """A prediction or an error per task, in the order of the request."""

    model_version: str
    results: list[LabelStudioPrediction | FailedItem]


class IgnoredEvent(BaseModel):
    """An event that gives no sample, and why."""

    status: Literal["ignored"]
    reason: str


class WebhookResponse(RootModel[Sample | IgnoredEvent]):
    """The sample that was stored, or why there is none."""
