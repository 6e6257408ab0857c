"""The ASGI application: routes, and what surrounds them."""

from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from service.http import kserve, label_studio, problems
from service.http.endpoints import models, operations, pages, samples, segment
from service.http.middleware import Cors, Front
from service.http.state import State
from tagmask.errors import NotFound, RequestError, WrongMethod

ROUTES = [
    Route("/", pages.demo, methods=["GET"]),
    Route("/v1/segment", segment.segment, methods=["POST"]),
    Route("/v1/segment/batch", segment.segment_batch, methods=["POST"]),
    Route("/v1/samples", samples.add_sample, methods=["POST"]),
    Route("/v1/models", models.list_models, methods=["GET"]),
    Route("/v1/models/rollback", models.rollback, methods=["POST"]),
    Route("/v1/models/{version}", models.show_model, methods=["GET"]),
    Route("/v1/models/{version}/activate", models.activate, methods=["POST"]),
    Route("/livez", operations.livez, methods=["GET"]),
    Route("/readyz", operations.readyz, methods=["GET"]),
    Route("/metrics", operations.show_metrics, methods=["GET"]),
    Route("/openapi.json", operations.show_openapi, methods=["GET"]),
    Route("/docs", pages.docs, methods=["GET"]),
    Route("/docs/start.js", pages.docs_script, methods=["GET"]),
    *kserve.ROUTES,
    *label_studio.ROUTES,
]


def create_app(state: State, docs_assets: Path) -> Starlette:
    """The application; `docs_assets` is a folder with Swagger UI's files."""
    front = Middleware(Front, routes={route.endpoint: route.path for route in ROUTES})
    cors = Middleware(
        Cors,
        allow_origins=state.settings.origins,
        allow_methods=["GET", "POST"],
        allow_headers=["Authorization", "Content-Type", "X-API-Key", "X-Request-ID"],
        expose_headers=["X-Model-Version", "X-Request-ID", "Retry-After"],
    )
    app = Starlette(
        routes=[
            *ROUTES,
            Mount("/page", pages.Assets(directory=pages.DEMO_FILES)),
            Mount("/docs/assets", pages.Assets(directory=docs_assets)),
        ],
        middleware=[front, cors] if state.settings.origins else [front],
        exception_handlers={RequestError: problems.answer, HTTPException: _of_router},
    )
    app.router.redirect_slashes = False
    app.state.tagmask = state
    return app


async def _of_router(request: Request, fault: Exception) -> Response:
    assert isinstance(fault, HTTPException)
    path = request.url.path[:200]
    if fault.status_code == 405:
        allowed = (fault.headers or {}).get("Allow", "")
        wrong = WrongMethod(
            f"{path} takes {allowed}, not {request.method}", limit=allowed, headers=dict(fault.headers or {})
        )
        return problems.response(wrong, path)
    return problems.response(NotFound(f"nothing at {path}; /docs lists what there is", code="unknown_path"), path)
