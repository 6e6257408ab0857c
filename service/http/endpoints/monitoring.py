"""Probes and metrics."""

import asyncio
from typing import Literal

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from service.http.operation import OPEN_ERRORS, Operation, Reply, json_reply
from service.http.responses import json_response
from service.http.state import state_of
from service.models import Refusal
from service.telemetry import METRICS_TYPE, metrics


class LiveResponse(BaseModel):
    """The process responds."""

    status: Literal["alive"]


class ReadyResponse(BaseModel):
    """The model that is served, the ONNX Runtime provider it runs on, and the model that was refused."""

    status: Literal["ready"]
    model: str
    provider: str
    refused: Refusal | None


async def livez(_: Request) -> Response:
    """The process responds."""
    return json_response(LiveResponse(status="alive"))


async def readyz(request: Request) -> Response:
    """A model is loaded and warmed up."""
    models = state_of(request).models
    model = models.current
    return json_response(
        ReadyResponse(status="ready", model=model.version, provider=model.provider, refused=models.refused)
    )


async def show_metrics(request: Request) -> Response:
    """Metrics in Prometheus's text format."""
    state_of(request).access.check_user(request)
    return Response(await asyncio.to_thread(metrics), media_type=METRICS_TYPE)


OPERATIONS = [
    Operation("GET", "/livez", livez, "livez", "Liveness probe", {200: json_reply(LiveResponse)}, OPEN_ERRORS),
    Operation("GET", "/readyz", readyz, "readyz", "Readiness probe", {200: json_reply(ReadyResponse)}, OPEN_ERRORS),
    Operation(
        "GET", "/metrics", show_metrics, "metrics", "Prometheus metrics",
        {200: Reply({"text/plain": {"type": "string"}}, "text format")},
    ),
]  # fmt: skip
