"""Traces, from the request's `traceparent` to what a collector receives from the running service."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from service.http.tracing import span_exporter
from tagmask.errors import StartError

ROOT = Path(__file__).parents[3]
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"

SERVICE = f"""
from tests.service.http.colour_photos import encoded
from tests.service.serving import serving

with serving() as client:
    headers = {{"traceparent": "00-{TRACE}-{PARENT}-01", "X-Request-ID": "a-request"}}
    client.post("/v1/segment?refine=crf", files={{"image": encoded()}}, headers=headers).raise_for_status()
    assert client.get("/v1/models/nothing").status_code == 404
    assert client.get("/livez").status_code == 200
"""
"""A process of its own, as traces are set up once per process."""


class Collector(ThreadingHTTPServer):
    """Keeps what it receives by OTLP over HTTP."""

    def __init__(self) -> None:
        received: list[ExportTraceServiceRequest] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                body = self.rfile.read(int(self.headers["Content-Length"]))
                received.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.received = received

    def spans(self) -> list[Any]:
        return [
            span
            for request in self.received
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def attributes(span: Any) -> dict[str, str | int]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}


def test_a_trace_goes_on_through_the_stages_to_the_collector_and_the_log(tmp_path: Path, collector: Collector):
    variables = {
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=test",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-c", SERVICE], env={**os.environ, **variables}, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr

    spans = {span.name: span for span in collector.spans()}
    assert spans.keys() == {
        "POST /v1/segment", "GET /v1/models/{version}", "decode", "inference", "refine", "encode"
    }  # fmt: skip
    request = spans["POST /v1/segment"]
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE, PARENT)
    recorded = attributes(request)
    assert recorded["http.route"] == "/v1/segment"
    assert recorded["tagmask.request_id"] == "a-request"
    assert recorded["http.status_code"] == 200
    for stage in ("decode", "inference", "refine", "encode"):
        assert spans[stage].trace_id == request.trace_id
        assert spans[stage].parent_span_id == request.span_id
        assert request.start_time_unix_nano <= spans[stage].start_time_unix_nano <= spans[stage].end_time_unix_nano
    assert spans["GET /v1/models/{version}"].trace_id != request.trace_id
    resource = attributes(collector.received[0].resource_spans[0].resource)
    assert (resource["service.name"], resource["deployment.environment"]) == ("tagmask", "test")

    lines = [json.loads(line) for line in done.stdout.splitlines()]
    (line,) = [line for line in lines if line["event"] == "request" and line["path"] == "/v1/segment"]
    assert (line["trace_id"], line["request_id"]) == (TRACE, "a-request")
    assert not [line for line in lines if line["event"] == "serving" and "trace_id" in line]


@pytest.mark.parametrize(
    ("variable", "value", "remedy"),
    [
        ("OTEL_TRACES_EXPORTER", "zipkin", "set it to none or otlp"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "set it to http/protobuf"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json", "set it to http/protobuf"),
    ],
)
def test_what_is_not_supported_is_refused(variable: str, value: str, remedy: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(variable, value)
    with pytest.raises(StartError, match=f"{variable}={value}: .*{remedy}"):
        span_exporter()


@pytest.mark.parametrize("value", [None, "", "none"])
def test_nothing_is_traced_by_default(value: str | None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OTEL_TRACES_EXPORTER", raising=False)
    if value is not None:
        monkeypatch.setenv("OTEL_TRACES_EXPORTER", value)
    assert span_exporter() is None
