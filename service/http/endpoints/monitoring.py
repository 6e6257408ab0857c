"""Probes and metrics."""

import asyncio
from typing import Literal

from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from service import activity, telemetry
from service.http.operation import OPEN_ERRORS, Operation, Reply
from service.http.responses import json_response
from service.http.state import state_of
from service.models import Refusal
from tagmask.errors import Unavailable
from tagmask.inputs import Precision


class LiveResponse(BaseModel):
    """The process responds."""

    status: Literal["alive"]


class ReadyResponse(BaseModel):
    """The model that is served, the ONNX Runtime provider and the precision it runs in, and the model that was refused.

    `precision` is that of the model, but fp32 for an int8 model where float is faster. `samples` states whether the
    service accepts photos to learn from.
    """

    status: Literal["ready"]
    model: str
    provider: str
    precision: Precision
    samples: bool
    refused: Refusal | None


async def livez(_: Request) -> Response:
    """Whether the process responds (liveness probe)."""
    return json_response(LiveResponse(status="alive"))


async def readyz(request: Request) -> Response:
    """Whether a model is loaded and warmed up (readiness probe)."""
    state = state_of(request)
    models, model = state.models, state.models.current
    return json_response(
        ReadyResponse(
            status="ready",
            model=model.version,
            provider=model.provider,
            precision=model.precision,
            samples=state.inbox is not None,
            refused=models.refused,
        )
    )


async def metrics(request: Request) -> Response:
    """Prometheus metrics."""
    state_of(request).access.check_user(request)
    return Response(await asyncio.to_thread(telemetry.metrics, activity.workers()), media_type=CONTENT_TYPE_LATEST)


OPERATIONS = [
    Operation("GET", "/livez", livez, {200: LiveResponse}, OPEN_ERRORS),
    Operation("GET", "/readyz", readyz, {200: ReadyResponse}, (*OPEN_ERRORS, Unavailable)),
    Operation("GET", "/metrics", metrics, {200: Reply({"text/plain": {"type": "string"}}, "text format")}),
]
