"""/v2: health, metadata, and inference."""

import asyncio
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from service.http import VERSION
from service.http.endpoints.models import versions
from service.http.kserve.request import INPUTS, LENGTH_HEADER, OUTPUTS, InferenceRequest, read_inference
from service.http.kserve.response import (
    MODEL,
    EncodedResponse,
    InferenceResponse,
    ModelMetadata,
    ModelReady,
    ServerLive,
    ServerMetadata,
    ServerReady,
    TensorMetadata,
    encode_response,
)  # fmt: skip
from service.http.operation import BODY_ERRORS, KEY_ERRORS, OPEN_ERRORS, Operation
from service.http.problems import InferenceError
from service.http.request_body import read_bytes
from service.http.responses import VERSION_HEADER, PiecesResponse, json_response
from service.http.state import State, state_of
from service.http.transfer import transfer_of
from service.models import unknown_model
from tagmask.errors import NotFound, Refused, Unavailable
from tagmask.formats import JSON
from tagmask.segmenter import Segmenter


async def live(_: Request) -> Response:
    """Whether the process responds (liveness probe)."""
    return json_response(ServerLive(live=True))


async def ready(request: Request) -> Response:
    """Whether a model is served (readiness probe)."""
    _ = state_of(request).models.current
    return json_response(ServerReady(ready=True))


async def server(request: Request) -> Response:
    """Name and extensions of the server."""
    state_of(request).access.check_user(request)
    return json_response(ServerMetadata(name=MODEL, version=VERSION, extensions=["binary_tensor_data"]))


async def model(request: Request) -> Response:
    """Versions, inputs and outputs of the model."""
    state = state_of(request)
    state.access.check_user(request)
    known = await asyncio.to_thread(versions, state.models)
    version = _requested_version(request)
    if version is not None and version not in known:
        raise unknown_model(version)
    return json_response(
        ModelMetadata(
            name=MODEL,
            versions=list(known),
            platform="onnxruntime_onnx",
            inputs=[TensorMetadata(name=name, datatype=each[0], shape=each[1]) for name, each in INPUTS.items()],
            outputs=[TensorMetadata(name=name, datatype=each[0], shape=each[1]) for name, each in OUTPUTS.items()],
        )
    )


async def model_ready(request: Request) -> Response:
    """Whether the model would answer."""
    state = state_of(request)
    state.access.check_user(request)
    await _current_model(request, state)
    return json_response(ModelReady(name=MODEL, ready=True))


async def infer(request: Request) -> Response:
    """Segment a photo."""
    state, limits = state_of(request), state_of(request).settings
    state.access.check_user(request)
    deadline = transfer_of(request).deadline
    state.concurrency.admit(request)
    body = await read_bytes(request, limits.max_body_bytes)
    current = await _current_model(request, state)

    def work() -> EncodedResponse:
        inference = read_inference(body, request.headers.get(LENGTH_HEADER), limits.max_tags)
        encode = partial(encode_response, inference=inference)
        return current.run(inference.photo, inference.options, encode)

    response = await deadline.work(state.concurrency.run(work, request))
    headers = {VERSION_HEADER: current.version, "Cache-Control": "no-store"}
    if response.header_length is None:
        return PiecesResponse(response.body, JSON, headers)
    headers[LENGTH_HEADER] = str(response.header_length)
    return PiecesResponse(response.body, "application/octet-stream", headers)


async def _current_model(request: Request, state: State) -> Segmenter:
    """The model that is served. Raises NotFound or Refused if the request names another version, and Unavailable."""
    current, version = state.models.current, _requested_version(request)
    if version in (None, current.version):
        return current
    if version not in await asyncio.to_thread(versions, state.models):
        raise unknown_model(str(version))
    raise Refused(
        f"version {version!r} is not served, {current.version!r} is; request that one or none, "
        f"or have an admin POST /v1/models/{version}/activate",
        code="model_not_served",
        field="version",
    )


def _requested_version(request: Request) -> str | None:
    """The version that the path names, if any. Raises NotFound for another model's name."""
    name = request.path_params["name"]
    if name != MODEL:
        raise NotFound(f"no model {name[:100]!r}; the only one is {MODEL!r}", code="unknown_model", field="name")
    version = request.path_params.get("version")
    return None if version is None else str(version)


_operation = partial(Operation, error=(JSON, InferenceError))
_LENGTH = {
    "name": LENGTH_HEADER,
    "in": "header",
    "schema": {"type": "integer", "minimum": 0},
    "description": "number of bytes of JSON, when binary tensors follow it",
}


def _model_operations(path: str, id: str) -> list[Operation]:
    within: dict[str, Any] = {"path_schemas": {"name": {"const": MODEL}}}
    errors = (*KEY_ERRORS, NotFound)
    return [
        _operation("GET", path, model, {200: ModelMetadata}, errors, id=id, **within),
        _operation(
            "GET", f"{path}/ready", model_ready, {200: ModelReady}, (*errors, Refused, Unavailable), id=f"{id}_ready",
            **within,
        ),
        _operation(
            "POST", f"{path}/infer", infer, {200: InferenceResponse}, (*BODY_ERRORS, NotFound, Refused),
            InferenceRequest, headers=(_LENGTH,), binary=True, id=f"{id}_infer", **within,
        ),
    ]  # fmt: skip


OPERATIONS = [
    _operation("GET", "/v2", server, {200: ServerMetadata}, id="v2_server"),
    _operation("GET", "/v2/health/live", live, {200: ServerLive}, OPEN_ERRORS, id="v2_live"),
    _operation("GET", "/v2/health/ready", ready, {200: ServerReady}, (*OPEN_ERRORS, Unavailable), id="v2_ready"),
    *_model_operations("/v2/models/{name}/versions/{version}", "v2_version"),
    *_model_operations("/v2/models/{name}", "v2_model"),
]
