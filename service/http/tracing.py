"""OpenTelemetry traces, if the standard environment variables ask for them: OTEL_TRACES_EXPORTER=otlp.

BentoML's own tracing stays off: these variables do not turn it on, and it makes a span for each chunk of each body.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.environment_variables import OTEL_TRACES_EXPORTER
from opentelemetry.sdk.environment_variables import OTEL_EXPORTER_OTLP_PROTOCOL, OTEL_EXPORTER_OTLP_TRACES_PROTOCOL
from starlette.types import ASGIApp

from service.http.middleware import PROBES
from tagmask.errors import StartError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

_SUPPORTED = {
    OTEL_TRACES_EXPORTER: ("none", "otlp"),
    OTEL_EXPORTER_OTLP_PROTOCOL: ("http/protobuf",),
    OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: ("http/protobuf",),
}


def span_exporter() -> "SpanExporter | None":
    """What sends the spans, None by default. Raises StartError for a value of a variable that is not supported."""
    for name, values in _SUPPORTED.items():
        if (value := os.environ.get(name)) and value not in values:
            raise StartError(f"{name}={value}: is not supported; set it to {' or '.join(values)}, or unset it")
    if os.environ.get(OTEL_TRACES_EXPORTER) != "otlp":
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()


@asynccontextmanager
async def traced(app: ASGIApp) -> AsyncIterator[ASGIApp]:
    """`app` with a span for each request but those for `PROBES`, if there is an exporter.

    The spans that are left are sent at the end. Works once per process. Raises as `span_exporter`.
    """
    exporter = span_exporter()
    if exporter is None:
        yield app
        return
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
    from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({SERVICE_NAME: "tagmask"}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    try:
        yield OpenTelemetryMiddleware(
            app,
            excluded_urls=",".join(f"{path}$" for path in PROBES),
            default_span_details=lambda _: ("HTTP", {}),  # until the route is known
            exclude_spans=["receive", "send"],
        )
    finally:
        await asyncio.to_thread(provider.shutdown)
