"""The ASGI application: operations, routes, and the middleware around them."""

from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from service.http import confidence, openapi, problems
from service.http.endpoints import models, monitoring, pages, samples, segment
from service.http.kserve import endpoints as kserve
from service.http.label_studio import endpoints as label_studio
from service.http.middleware import CorsMiddleware, RequestMiddleware
from service.http.state import State
from tagmask.errors import NotFound, RequestError, WrongMethod

OPERATIONS = {
    "masks": segment.OPERATIONS,
    "new photos": samples.OPERATIONS,
    "models": models.OPERATIONS,
    "operations": [*monitoring.OPERATIONS, *pages.OPERATIONS],
    "KServe V2": kserve.OPERATIONS,
    "Label Studio": label_studio.OPERATIONS,
}
"""By tag of the OpenAPI document."""

ROUTES = [
    *(operation.route for operations in OPERATIONS.values() for operation in operations),
    Route("/", pages.demo, methods=["GET"]),
    Route("/docs/start.js", pages.docs_script, methods=["GET"]),
]


def create_app(state: State, docs_assets: Path) -> Starlette:
    """The application; `docs_assets` is a folder with the files of Swagger UI."""
    requests = Middleware(RequestMiddleware, paths={route.endpoint: route.path for route in ROUTES})
    cors = Middleware(
        CorsMiddleware,
        allow_origins=state.settings.origins,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "X-API-Key", "X-Request-ID"],
        expose_headers=["X-Model-Version", "X-Request-ID", "Retry-After", *confidence.HEADERS],
    )
    app = Starlette(
        routes=[
            *ROUTES,
            Mount("/page", pages.Assets(directory=pages.FILES)),
            Mount("/docs/assets", pages.Assets(directory=docs_assets)),
        ],
        middleware=[requests, cors] if state.settings.origins else [requests],
        exception_handlers={RequestError: problems.handle, HTTPException: _handle_routing},
    )
    app.router.redirect_slashes = False
    app.state.tagmask = state
    app.state.openapi = openapi.document(OPERATIONS, state.settings, closed=state.access.closed)
    return app


async def _handle_routing(request: Request, error: Exception) -> Response:
    """Report an unknown path or method in the shape of all other errors."""
    assert isinstance(error, HTTPException)
    path = request.url.path[:200]
    if error.status_code == 405:
        headers = dict(error.headers or {})
        allowed = headers.get("Allow", "")
        message = f"{path} accepts {allowed}, not {request.method}"
        return problems.response(WrongMethod(message, limit=allowed, headers=headers), path)
    return problems.response(NotFound(f"nothing at {path}; /docs lists all paths", code="unknown_path"), path)
