"""Around every request: its id, a log line, metrics, and an answer even to what nobody foresaw."""

import logging
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http import problems
from service.http.endpoints.segment import VERSION_HEADER
from service.telemetry import REQUEST_SECONDS, REQUESTS, request_id
from tagmask.errors import BadRequest

log = logging.getLogger("tagmask.http")

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PROBES = frozenset({"/livez", "/readyz", "/metrics", "/health", "/v2/health/live", "/v2/health/ready"})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_GONE = 499
"""Logged, never sent: the client went away before its answer."""


class Front:
    """ASGI middleware around the routes."""

    def __init__(self, app: ASGIApp, routes: dict[object, str]) -> None:
        """`routes` names the path of each endpoint, which is what metrics are counted by."""
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        identity = given if _ID.fullmatch(given) else uuid.uuid4().hex
        token = request_id.set(identity)
        status, started, sent = _GONE, time.perf_counter(), 0

        async def answer(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = identity
                headers["X-Content-Type-Options"] = "nosniff"
                headers.setdefault(VERSION_HEADER, scope["app"].state.tagmask.models.current.version)
            sent += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, answer)
        except ClientDisconnect:
            pass
        except Exception:
            fault = problems.unforeseen()
            if status == _GONE:
                await problems.response(fault, scope["path"])(scope, receive, answer)
        finally:
            self._tell(scope, status, time.perf_counter() - started, sent)
            request_id.reset(token)

    def _tell(self, scope: Scope, status: int, seconds: float, sent: int) -> None:
        route = self._routes.get(scope.get("endpoint"), "other")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        REQUESTS.labels(route, method, status).inc()
        REQUEST_SECONDS.labels(route).observe(seconds)
        level = logging.DEBUG if route in _PROBES else logging.INFO
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


class Cors(CORSMiddleware):
    """Starlette's, except that a preflight request that is refused is told of as every other fault."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """200, or 400 when the origin, the method or a header is not allowed."""
        allowed = super().preflight_response(request_headers)
        if allowed.status_code == 200:
            return allowed
        refused = problems.response(
            BadRequest(
                f"{bytes(allowed.body).decode()}; allow the origin with TAGMASK_CORS_ORIGINS, and send nothing but "
                "what the Access-Control-Allow headers name",
                code="cross_origin",
                field="Origin",
            ),
            path="",
        )
        refused.raw_headers += [each for each in allowed.raw_headers if not each[0].startswith(b"content-")]
        return refused
