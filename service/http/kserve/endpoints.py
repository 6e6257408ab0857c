"""/v2: health, metadata, and inference."""

import asyncio

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.http import VERSION
from service.http.deadline import Deadline
from service.http.endpoints.models import versions
from service.http.endpoints.segment import VERSION_HEADER
from service.http.kserve.request import INPUTS, OUTPUTS, read_question
from service.http.kserve.response import MODEL, Answer, write_answer
from service.http.request_body import read_bytes
from service.http.state import State, state_of
from service.models import Model, unknown_model
from tagmask.errors import NotFound, Refused, UnsupportedType
from tagmask.formats import JSON

LENGTH_HEADER = "Inference-Header-Content-Length"


async def live(_: Request) -> Response:
    """The process answers."""
    return JSONResponse({"live": True})


async def ready(_: Request) -> Response:
    """A model is at work, or this would not answer."""
    return JSONResponse({"ready": True})


async def server(request: Request) -> Response:
    """What this server is called, and which extensions it has."""
    state_of(request).access.check_user(request)
    return JSONResponse({"name": MODEL, "version": VERSION, "extensions": ["binary_tensor_data"]})


async def model(request: Request) -> Response:
    """The model's versions, inputs and outputs, which are the same for all versions."""
    state = state_of(request)
    state.access.check_user(request)
    known = await asyncio.to_thread(versions, state.models)
    asked = _version(request)
    if asked is not None and asked not in known:
        raise unknown_model(asked)
    return JSONResponse(
        {
            "name": MODEL,
            "versions": list(known),
            "platform": "onnxruntime_onnx",
            "inputs": [_metadata(name, *kind) for name, kind in INPUTS.items()],
            "outputs": [_metadata(name, *kind) for name, kind in OUTPUTS.items()],
        }
    )


async def model_ready(request: Request) -> Response:
    """Whether the model, in the version that is asked for, would answer."""
    state = state_of(request)
    state.access.check_user(request)
    await _serving(request, state)
    return JSONResponse({"name": MODEL, "ready": True})


async def infer(request: Request) -> Response:
    """One photo's mask."""
    state, limits = state_of(request), state_of(request).settings
    state.access.check_user(request)
    if (encoding := request.headers.get("content-encoding", "identity")) != "identity":
        message = f"a body in Content-Encoding {encoding[:100]!r} is not read; send it uncompressed"
        raise UnsupportedType(message, field="Content-Encoding")
    deadline = Deadline(limits.max_seconds)
    with state.gate.place():
        body = await deadline.body(read_bytes(request, limits.max_body_bytes))
        serving = await _serving(request, state)

        def work() -> Answer:
            question = read_question(body, request.headers.get(LENGTH_HEADER), limits.max_tags)
            return state.engine.paint(
                question.photo, question.tags, question.refine, serving, lambda found: write_answer(found, question)
            )

        answer = await deadline.work(state.gate.run(work, request))
    headers = {VERSION_HEADER: serving.version, "Cache-Control": "no-store"}
    if answer.header_length is None:
        return Response(answer.content, media_type=JSON, headers=headers)
    headers[LENGTH_HEADER] = str(answer.header_length)
    return Response(answer.content, media_type="application/octet-stream", headers=headers)


async def _serving(request: Request, state: State) -> Model:
    """The serving model, if it is the one that is asked for. Raises NotFound, and Refused for another version."""
    current, asked = state.models.current, _version(request)
    if asked in (None, current.version):
        return current
    if asked not in await asyncio.to_thread(versions, state.models):
        raise unknown_model(str(asked))
    raise Refused(
        f"version {asked!r} is not served, {current.version!r} is; ask for that one or for none, "
        f"or have an admin POST /v1/models/{asked}/activate",
        code="model_not_served",
        field="version",
    )


def _version(request: Request) -> str | None:
    """The version that is asked for, if any. Raises NotFound for another model's name."""
    name = request.path_params["name"]
    if name != MODEL:
        raise NotFound(f"no model {name[:100]!r}; there is one, {MODEL!r}", code="unknown_model", field="name")
    version = request.path_params.get("version")
    return None if version is None else str(version)


def _metadata(name: str, datatype: str, shape: list[int]) -> dict[str, object]:
    return {"name": name, "datatype": datatype, "shape": shape}
