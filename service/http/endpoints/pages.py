"""The demo page at `/`, the OpenAPI document, and `/docs`, which shows it in Swagger UI.

The pages load nothing from other servers.
"""

from functools import cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from service.http.operation import OPEN_ERRORS, Operation, Reply
from tagmask.formats import JSON

FILES = Path(__file__).parents[2] / "page"

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'{}; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


async def demo(_: Request) -> Response:
    """The demo page."""
    return _page("index.html", _POLICY.format(""))


async def openapi(request: Request) -> Response:
    """This document."""
    return JSONResponse(request.app.state.openapi)


async def docs(_: Request) -> Response:
    """This document as an interactive page."""
    return _page("docs.html", _POLICY.format(" 'unsafe-inline'"))  # for Swagger UI's own styles


async def docs_script(_: Request) -> Response:
    """The script that starts Swagger UI."""
    return Response(_read("docs.js"), media_type="text/javascript")


def _page(name: str, policy: str) -> Response:
    return HTMLResponse(_read(name), headers={"Content-Security-Policy": policy})


@cache
def _read(name: str) -> bytes:
    return (FILES / name).read_bytes()


class Assets(StaticFiles):
    """Static files, always sent whole: Starlette answers a malformed Range header in plain text, not as a problem."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file, ignoring any Range header."""
        headers = [(name, value) for name, value in scope["headers"] if name != b"range"]
        await super().__call__({**scope, "headers": headers}, receive, send)


OPERATIONS = [
    Operation("GET", "/openapi.json", openapi, {200: Reply({JSON: {"type": "object"}}, "OpenAPI 3.1")}, OPEN_ERRORS),
    Operation("GET", "/docs", docs, {200: Reply({"text/html": {"type": "string"}}, "HTML")}, OPEN_ERRORS),
]
