"""/v1/models: what could be served, what is, and switching between them."""

import asyncio
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.http.state import state_of
from service.models import Model, Models, unknown_model
from tagmask.bundle import Metadata, read_metadata
from tagmask.errors import BundleError, NotFound
from tagmask.store import UnknownVersion


async def list_models(request: Request) -> Response:
    """Every model of the store, and the one that is served from elsewhere."""
    state = state_of(request)
    state.access.check_user(request)
    return _answer({"models": await asyncio.to_thread(_all, state.models)})


async def show_model(request: Request) -> Response:
    """One model."""
    state = state_of(request)
    state.access.check_user(request)
    version = request.path_params["version"]
    if version not in await asyncio.to_thread(versions, state.models):
        raise unknown_model(version)
    return _answer(await asyncio.to_thread(_one, state.models, version))


async def activate(request: Request) -> Response:
    """Make a model of the store the champion, and serve it."""
    state = state_of(request)
    state.access.check_admin(request)
    return _answer(_served(await state.models.activate(request.path_params["version"])))


async def rollback(request: Request) -> Response:
    """Go back to the champion before."""
    state = state_of(request)
    state.access.check_admin(request)
    return _answer(_served(await state.models.rollback()))


def versions(models: Models) -> tuple[str, ...]:
    """Versions of the store, and that of what is served from elsewhere."""
    stored = models.store.versions() if models.store else ()
    served = models.current.version
    return stored if served in stored else (served, *stored)


def _all(models: Models) -> list[dict[str, Any]]:
    told = []
    for version in versions(models):
        with suppress(NotFound):  # removed a moment ago
            told.append(_one(models, version))
    return told


def _one(models: Models, version: str) -> dict[str, Any]:
    """What is known of `version`, and what is wrong with it. Raises NotFound if the store does not have it."""
    if version == models.current.version or models.store is None:
        return _served(models.current)
    try:
        sha256 = models.store.record(version).sha256
        return _described(_metadata(models.store.path(version), sha256), sha256, serving=False)
    except UnknownVersion as fault:
        raise unknown_model(version) from fault
    except BundleError as fault:
        return {"version": version, "serving": False, "fault": models.within_store(fault)}


@lru_cache(maxsize=1024)
def _metadata(path: Path, sha256: str) -> Metadata:
    """Read once, as a published bundle does not change; its checksum is part of the key."""
    return read_metadata(path)


def _served(model: Model) -> dict[str, Any]:
    return _described(model.metadata, model.sha256, serving=True)


def _described(told: Metadata, sha256: str, *, serving: bool) -> dict[str, Any]:
    fields = {"version", "created", "classes", "working_size", "backbone", "precision", "rounds", "photos",
              "data_digest", "supervision", "saliency", "metrics"}  # fmt: skip
    return {**told.model_dump(mode="json", include=fields), "sha256": sha256, "serving": serving}


def _answer(content: dict[str, Any]) -> Response:
    return JSONResponse(content, headers={"Cache-Control": "no-store"})
