"""The demo page at `/`, the OpenAPI document, and `/docs`, which shows it in Swagger UI.

The pages load nothing from other servers.
"""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from service.http.operation import OPEN_ERRORS, Operation, Reply, json_reply

DEMO_FILES = Path(__file__).parents[2] / "page"

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_SWAGGER_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_SWAGGER_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Tagmask HTTP API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/assets/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/assets/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""

_SWAGGER_START = """SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
});
"""


async def demo(_: Request) -> Response:
    """The demo page."""
    return FileResponse(DEMO_FILES / "index.html", headers={"Content-Security-Policy": _POLICY})


async def openapi(request: Request) -> Response:
    """The OpenAPI document."""
    return JSONResponse(request.app.state.openapi)


async def docs(_: Request) -> Response:
    """The API documentation page."""
    return HTMLResponse(_SWAGGER_PAGE, headers={"Content-Security-Policy": _SWAGGER_POLICY})


async def docs_script(_: Request) -> Response:
    """The script that starts Swagger UI; a separate file, as the page's policy allows no inline scripts."""
    return Response(_SWAGGER_START, media_type="text/javascript")


class Assets(StaticFiles):
    """Static files, always sent whole: Starlette answers a malformed Range header in plain text, not as a problem."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file, ignoring any Range header."""
        headers = [(name, value) for name, value in scope["headers"] if name != b"range"]
        await super().__call__({**scope, "headers": headers}, receive, send)


OPERATIONS = [
    Operation(
        "GET", "/openapi.json", openapi, "openapi", "This document",
        {200: json_reply({"type": "object"}, "OpenAPI 3.1")}, OPEN_ERRORS, needs_key=False,
    ),
    Operation(
        "GET", "/docs", docs, "docs", "This document as an interactive page",
        {200: Reply({"text/html": {"type": "string"}}, "HTML")}, OPEN_ERRORS, needs_key=False,
    ),
]  # fmt: skip
