"""/v1/models: what could be served, what is, and switching between them."""

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.bundle import Metadata, read_metadata
from service.errors import BundleError, NotFound
from service.http.state import State, state_of
from service.models import Model
from service.store import Store


async def list_models(request: Request) -> Response:
    """Every model of the store, or the one file that is served."""
    state = state_of(request)
    state.access.check_user(request)
    return _answer(state, {"models": await asyncio.to_thread(_models, state)})


async def show_model(request: Request) -> Response:
    """One model."""
    state = state_of(request)
    state.access.check_user(request)
    version = request.path_params["version"]
    found = [model for model in await asyncio.to_thread(_models, state) if model["version"] == version]
    if not found:
        raise NotFound(f"no model {version[:100]!r}; GET /v1/models lists them", code="unknown_model", field="version")
    return _answer(state, found[0])


async def activate(request: Request) -> Response:
    """Make a model of the store the champion, and serve it."""
    state = state_of(request)
    state.access.check_admin(request)
    return _switched(state, await state.models.activate(request.path_params["version"]))


async def rollback(request: Request) -> Response:
    """Go back to the champion before."""
    state = state_of(request)
    state.access.check_admin(request)
    return _switched(state, await state.models.rollback())


def _switched(state: State, model: Model) -> Response:
    return _answer(state, _described(model.metadata, model.sha256, serving=True))


def _models(state: State) -> list[dict[str, Any]]:
    serving = state.models.current
    store = state.models.store
    if store is None:
        return [_described(serving.metadata, serving.sha256, serving=True)]
    return [_stored(store, version, serving.version) for version in store.versions()]


def _stored(store: Store, version: str, serving: str) -> dict[str, Any]:
    try:
        return _described(read_metadata(store.path(version)), store.record(version).sha256, serving=version == serving)
    except BundleError as fault:
        return {"version": version, "serving": version == serving, "fault": str(fault)}


def _described(told: Metadata, sha256: str, *, serving: bool) -> dict[str, Any]:
    fields = {"version", "created", "classes", "working_size", "backbone", "precision", "rounds", "photos",
              "data_digest", "supervision", "saliency", "metrics"}  # fmt: skip
    return {**told.model_dump(mode="json", include=fields), "sha256": sha256, "serving": serving}


def _answer(state: State, content: dict[str, Any]) -> Response:
    return JSONResponse(content, headers={"Cache-Control": "no-store"})
