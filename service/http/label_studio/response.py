"""Responses to Label Studio."""

import logging
from typing import Literal

from pydantic import BaseModel, RootModel

from service.http import problems
from service.http.problems import FailedItem
from tagmask.errors import RequestError
from tagmask.formats.label_studio import LabelStudioPrediction
from tagmask.inbox import Sample

log = logging.getLogger("tagmask.label_studio")


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
    """An event that changes no sample, and why."""

    status: Literal["ignored"]
    reason: str


class ChangedSamples(BaseModel):
    """The samples whose tags an event changed, or an error in the place of one; without tags they are withdrawn."""

    samples: list[Sample | FailedItem]


class WebhookResponse(RootModel[Sample | ChangedSamples | IgnoredEvent]):
    """The sample that was stored, those that were changed, or why there are none."""


def failed_item(error: RequestError) -> FailedItem:
    """`error` in the place of a result; the log has it too."""
    log_refusal(error)
    return FailedItem(error=problems.error_detail(error))


def log_refusal(error: RequestError) -> None:
    """Log why something is refused: Label Studio shows at most the status of an error response."""
    log.warning("Label Studio request refused", extra={"code": error.code, "reason": error.message})
