"""Probes, metrics, and the interface's own description."""

import asyncio
from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.http import openapi
from service.http.state import state_of
from service.telemetry import METRICS_TYPE, metrics


async def livez(_: Request) -> Response:
    """The process answers."""
    return JSONResponse({"status": "alive"})


async def readyz(request: Request) -> Response:
    """A model is loaded and warmed up; which one, where it runs, and which one was refused."""
    models = state_of(request).models
    model = models.current
    return JSONResponse(
        {
            "status": "ready",
            "model": model.version,
            "provider": model.network.provider,
            "refused": asdict(models.refused) if models.refused else None,
        }
    )


async def show_metrics(request: Request) -> Response:
    """Prometheus' text format."""
    state_of(request).access.check_user(request)
    return Response(await asyncio.to_thread(metrics), media_type=METRICS_TYPE)


async def show_openapi(request: Request) -> Response:
    """The OpenAPI document."""
    state = state_of(request)
    return JSONResponse(openapi.document(state.settings, closed=state.access.closed))
