"""Middleware: what every request gets (an id, a log line, metrics, a response to any exception), and CORS."""

import logging
import re
import time
import uuid

from opentelemetry import trace
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import cors
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http import problems
from service.http.deadline import Deadline
from service.http.responses import VERSION_HEADER
from service.http.transfer import Abandoned, Transfer
from service.telemetry import REQUEST_SECONDS, REQUESTS, request_id
from tagmask.errors import BadRequest

log = logging.getLogger("tagmask.http")

PROBES = frozenset({"/livez", "/readyz", "/metrics", "/health", "/v2/health/live", "/v2/health/ready"})
"""Paths that are requested every few seconds: they are logged at level debug alone, and not traced."""

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_DISCONNECTED = 499  # logged, never sent: the client disconnected before the response


class RequestMiddleware:
    """ASGI middleware around the routes."""

    def __init__(self, app: ASGIApp, paths: dict[object, str]) -> None:
        """`paths` maps each endpoint to the path that metrics are labelled with."""
        self._app = app
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        header = Headers(scope=scope).get("x-request-id", "")
        identity = header if _ID.fullmatch(header) else uuid.uuid4().hex
        request_id.set(identity)  # to the end of the task, for what the server logs after this returns
        state = scope["app"].state.tagmask
        deadline = Deadline(state.settings.max_seconds)
        status, start, sent = _DISCONNECTED, time.perf_counter(), 0
        operation: tuple[str, str] | None = None

        async def send_with_headers(message: Message) -> None:
            nonlocal status, sent, operation
            if message["type"] == "http.response.start":
                status = message["status"]
                method, route = operation = self._operation(scope)
                span = trace.get_current_span()
                span.update_name(f"{method} {route}")
                span.set_attributes({"http.route": route, "tagmask.request_id": identity})
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = identity
                headers["X-Content-Type-Options"] = "nosniff"
                if state.models.served:
                    headers.setdefault(VERSION_HEADER, state.models.served.version)
            sent += len(message.get("body", b""))
            await transfer.send(message)

        transfer = Transfer(scope, receive, send, deadline, state.settings.max_batch_bytes)
        try:
            await self._app(scope, transfer.receive, send_with_headers)
        except ClientDisconnect:
            pass
        except Abandoned:
            log.warning("response not read in time", extra={"path": scope["path"][:200]})
            raise
        except Exception:
            error = problems.unexpected()
            if status == _DISCONNECTED:
                await problems.response(error, scope["path"])(scope, receive, send_with_headers)
        finally:
            transfer.end()
            _record(scope, operation or self._operation(scope), status, time.perf_counter() - start, sent)

    def _operation(self, scope: Scope) -> tuple[str, str]:
        """Method and route, which do not contain what clients make up."""
        method = scope["method"] if scope["method"] in _METHODS else "other"
        return method, self._paths.get(scope.get("endpoint"), "other")


def _record(scope: Scope, operation: tuple[str, str], status: int, seconds: float, sent: int) -> None:
    """Write the metrics and the log line of a request."""
    method, route = operation
    REQUESTS.labels(route, method, status).inc()
    REQUEST_SECONDS.labels(route).observe(seconds)
    level = logging.DEBUG if route in PROBES else logging.INFO
    log.log(
        level,
        "request",
        extra={
            "method": method,
            "path": scope["path"][:200],
            "status": status,
            "ms": round(seconds * 1000, 1),
            "bytes": sent,
            "client": (scope.get("client") or ("",))[0],
        },
    )


class CorsMiddleware(cors.CORSMiddleware):
    """Starlette's, but refused preflight requests are reported as a problem, not in plain text."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """200, or 400 when the origin, the method or a header is not allowed."""
        response = super().preflight_response(request_headers)
        if response.status_code == 200:
            return response
        refusal = problems.response(
            BadRequest(
                f"{bytes(response.body).decode()}; allow the origin with TAGMASK_CORS_ORIGINS, and send only what the "
                "Access-Control-Allow headers list",
                code="cross_origin",
                field="Origin",
            ),
            path="",
        )
        refusal.raw_headers += [each for each in response.raw_headers if not each[0].startswith(b"content-")]
        return refusal
