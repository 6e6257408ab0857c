"""/v1/models: list models, and switch between them."""

import asyncio
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, NonNegativeInt
from starlette.requests import Request
from starlette.responses import Response

from service.http.operation import KEY_ERRORS, Operation
from service.http.responses import json_response
from service.http.state import state_of
from service.models import Models, unknown_model
from tagmask.bundle import read_metadata
from tagmask.errors import BundleError, NotFound, Refused
from tagmask.metadata import Metadata
from tagmask.scores import Measured
from tagmask.segmenter import Segmenter
from tagmask.store import UnknownVersion


class ModelResponse(BaseModel):
    """A model of the store, or one that is served from elsewhere; `fault` says why it was refused as champion."""

    version: str
    created: AwareDatetime
    classes: list[str]
    working_size: NonNegativeInt
    tile: NonNegativeInt | None
    backbone: str
    precision: str
    rounds: NonNegativeInt
    photos: NonNegativeInt
    data_digest: str
    supervision: str
    saliency: str
    metrics: dict[str, Any]
    measured: Measured | None
    sha256: str
    serving: bool
    fault: str | None


class UnreadableModel(BaseModel):
    """A model of the store whose bundle cannot be read; `fault` says why."""

    version: str
    serving: Literal[False]
    fault: str


class ModelsResponse(BaseModel):
    """Every model of the store, and the one that is served from elsewhere."""

    models: list[ModelResponse | UnreadableModel]


async def list_models(request: Request) -> Response:
    """List all models."""
    state = state_of(request)
    state.access.check_user(request)
    return _response(await asyncio.to_thread(_list, state.models))


async def show_model(request: Request) -> Response:
    """Show a model."""
    state = state_of(request)
    state.access.check_user(request)
    version = request.path_params["version"]
    if version not in await asyncio.to_thread(versions, state.models):
        raise unknown_model(version)
    return _response(await asyncio.to_thread(_find, state.models, version))


async def activate(request: Request) -> Response:
    """Make a model the champion and serve it (admin key)."""
    state = state_of(request)
    state.access.check_admin(request)
    return _response(_describe_current(await state.models.activate(request.path_params["version"])))


async def rollback(request: Request) -> Response:
    """Return to the previous champion (admin key)."""
    state = state_of(request)
    state.access.check_admin(request)
    return _response(_describe_current(await state.models.rollback()))


def versions(models: Models) -> tuple[str, ...]:
    """Versions in the store, and that of a model served from elsewhere."""
    stored = models.store.versions() if models.store else ()
    served = models.served
    return stored if served is None or served.version in stored else (served.version, *stored)


def _list(models: Models) -> ModelsResponse:
    listed = []
    for version in versions(models):
        with suppress(NotFound):  # removed in the meantime
            listed.append(_find(models, version))
    return ModelsResponse(models=listed)


def _find(models: Models, version: str) -> ModelResponse | UnreadableModel:
    """The model `version`. Raises NotFound if it is not in the store."""
    if models.store is None or (models.served and version == models.served.version):
        return _describe_current(models.current)
    try:
        sha256 = models.store.record(version).sha256
        refused = models.refused
        fault = refused.reason if refused and refused.version == version else None
        return _describe(_metadata(models.store.path(version), sha256), sha256, serving=False, fault=fault)
    except UnknownVersion as error:
        raise unknown_model(version) from error
    except BundleError as error:
        return UnreadableModel(version=version, serving=False, fault=models.within_store(error))


@lru_cache(maxsize=1024)
def _metadata(path: Path, sha256: str) -> Metadata:
    """Read once, as a published bundle does not change; its checksum is part of the cache's key."""
    return read_metadata(path)


def _describe_current(model: Segmenter) -> ModelResponse:
    return _describe(model.metadata, model.sha256, serving=True)


def _describe(metadata: Metadata, sha256: str, *, serving: bool, fault: str | None = None) -> ModelResponse:
    fields = metadata.model_dump(include=set(ModelResponse.model_fields))
    return ModelResponse(**fields, sha256=sha256, serving=serving, fault=fault)


def _response(content: BaseModel) -> Response:
    return json_response(content, headers={"Cache-Control": "no-store"})


OPERATIONS = [
    Operation("GET", "/v1/models", list_models, {200: ModelsResponse}),
    Operation("POST", "/v1/models/rollback", rollback, {200: ModelResponse}, (*KEY_ERRORS, Refused)),
    Operation(
        "GET", "/v1/models/{version}", show_model, {200: ModelResponse | UnreadableModel}, (*KEY_ERRORS, NotFound)
    ),
    Operation(
        "POST", "/v1/models/{version}/activate", activate, {200: ModelResponse}, (*KEY_ERRORS, NotFound, Refused)
    ),
]  # fmt: skip
