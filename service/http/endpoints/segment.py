"""POST /v1/segment and /v1/segment/batch."""

import asyncio
import base64
import json
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response

from service.http import problems
from service.http.deadline import Deadline
from service.http.options import read_options
from service.http.request_body import Upload, only, read_form, some, too_many_bytes
from service.http.state import State, state_of
from service.models import Model
from tagmask.errors import RequestError
from tagmask.formats import JSON
from tagmask.segmenter import SegmentOptions

VERSION_HEADER = "X-Model-Version"


async def segment(request: Request) -> Response:
    """One photo, one answer in the format asked for."""
    state, limits = state_of(request), state_of(request).settings
    state.access.check_user(request)
    deadline = Deadline(limits.max_seconds)
    with state.gate.place():
        form = await deadline.body(read_form(request, max_bytes=limits.max_body_bytes, max_files=1))
        order = read_options(form.fields, _accept(request), limits.max_tags)
        model = state.models.current
        content = await deadline.work(state.gate.run(_work(state, only(form), order, model), request))
    return _response(content, order.format.media_type, model)


async def segment_batch(request: Request) -> Response:
    """Several photos, one answer each, in order; what is wrong with one is told in its own answer."""
    state, limits = state_of(request), state_of(request).settings
    state.access.check_user(request)
    deadline = Deadline(limits.max_seconds)
    with state.gate.place():
        form = await deadline.body(read_form(request, max_bytes=limits.max_batch_bytes, max_files=limits.max_files))
        order = read_options(form.fields, _accept(request), limits.max_tags, batch=True)
        model = state.models.current
        parts = await asyncio.gather(
            *(_answer(request, index, upload, order, model, deadline) for index, upload in enumerate(some(form)))
        )
    head = json.dumps({"model": model.version, "format": order.format.name}).encode()[:-1]
    return _response(head + b', "answers": [' + b", ".join(parts) + b"]}", JSON, model)


async def _answer(
    request: Request, index: int, upload: Upload, order: SegmentOptions, model: Model, deadline: Deadline
) -> bytes:
    """One photo's part of a batch, as JSON."""
    state = state_of(request)
    told: dict[str, object] = {"index": index, "name": upload.name}
    work = state.gate.run(_work(state, upload, order, model, quoted=True), request)
    outcome = await problems.outcome(deadline.work(work))
    if isinstance(outcome, RequestError):
        return json.dumps(told | {"status": outcome.status, "error": problems.error(outcome)}).encode()
    told |= {"status": 200, "media_type": order.format.media_type}
    return json.dumps(told).encode()[:-1] + b', "result": ' + outcome + b"}"


def _work(
    state: State, upload: Upload, order: SegmentOptions, model: Model, quoted: bool = False
) -> Callable[[], bytes]:
    """What a thread does for one photo; `quoted` makes of a picture a JSON string in base64."""

    def work() -> bytes:
        if len(upload.data) > state.settings.max_body_bytes:
            raise too_many_bytes(state.settings.max_body_bytes)
        content = state.engine.segment(upload.data, order, model)
        if quoted and order.format.media_type != JSON:
            return b'"' + base64.b64encode(content) + b'"'
        return content

    return work


def _accept(request: Request) -> str:
    """The Accept header, whose list may come in several lines."""
    return ", ".join(request.headers.getlist("accept"))


def _response(content: bytes, media_type: str, model: Model) -> Response:
    return Response(
        content,
        media_type=media_type,
        headers={VERSION_HEADER: model.version, "Cache-Control": "no-store", "Vary": "Accept"},
    )
