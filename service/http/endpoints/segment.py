"""POST /v1/segment and /v1/segment/batch."""

import asyncio
import base64
from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import BaseModel, Field, NonNegativeInt
from starlette.requests import Request
from starlette.responses import Response

from service.http import problems
from service.http.confidence import HEADERS, Confidence
from service.http.deadline import Deadline
from service.http.operation import BODY_ERRORS, Operation, PhotoBody, Reply
from service.http.options import read_options
from service.http.problems import ErrorDetail
from service.http.request_body import Upload, read_form, too_many_bytes, uploads
from service.http.responses import VERSION_HEADER, Body, PiecesResponse, ascii_json, fill_array, splice
from service.http.state import State, state_of
from service.http.transfer import transfer_of
from tagmask.errors import NotAcceptable, RequestError
from tagmask.formats import FORMATS, JSON, PNG, JsonDocument
from tagmask.formats.fields import Share
from tagmask.segmentation import Segmentation
from tagmask.segmenter import Segmenter, SegmentOptions

Picture = Annotated[str, Field(json_schema_extra={"contentEncoding": "base64"})]


class SegmentedPhoto(BaseModel):
    """A photo of a batch; `result` is the document, or the picture in base64.

    `expected_iou` is the intersection over union to expect of the mask, `low_confidence` whether that is below the
    limit of the service, and `unpainted` the given tags that are painted nowhere.
    """

    index: NonNegativeInt
    name: str
    status: Literal[200]
    media_type: str
    expected_iou: Share
    low_confidence: bool
    unpainted: list[str]
    result: Picture | JsonDocument


class RejectedPhoto(BaseModel):
    """A photo of a batch that could not be segmented."""

    index: NonNegativeInt
    name: str
    status: int
    error: ErrorDetail


class BatchResponse(BaseModel):
    """One answer per photo, in the order of the request."""

    model: str
    format: str
    answers: list[SegmentedPhoto | RejectedPhoto]


async def segment(request: Request) -> Response:
    """Segment a photo."""
    state, limits = state_of(request), state_of(request).settings
    state.access.check_user(request)
    deadline = transfer_of(request).deadline
    state.concurrency.admit(request)
    form = await read_form(request, max_bytes=limits.max_body_bytes, max_files=1)
    options = read_options(form.fields, _accept(request), limits.max_tags)
    model = state.models.current
    work = _work(state, uploads(form)[0], options, model)
    content, confidence = await deadline.work(state.concurrency.run(work, request))
    headers = _headers(model) | confidence.headers
    return Response(content, media_type=options.format.media_type, headers=headers)


async def segment_batch(request: Request) -> Response:
    """Segment several photos, with one answer or error per photo."""
    state, limits = state_of(request), state_of(request).settings
    state.access.check_user(request)
    deadline = transfer_of(request).deadline
    state.concurrency.admit(request)
    form = await read_form(request, max_bytes=limits.max_batch_bytes, max_files=limits.max_files)
    options = read_options(form.fields, _accept(request), limits.max_tags, batch=True)
    model = state.models.current
    answers = await asyncio.gather(
        *(_answer(request, index, each, options, model, deadline) for index, each in enumerate(uploads(form)))
    )
    batch = BatchResponse(model=model.version, format=options.format.name, answers=[])
    return PiecesResponse(fill_array(batch, answers), JSON, _headers(model))


async def _answer(
    request: Request, index: int, upload: Upload, options: SegmentOptions, model: Segmenter, deadline: Deadline
) -> Body:
    """One photo's part of a batch, as JSON."""
    state = state_of(request)
    work = state.concurrency.run(_work(state, upload, options, model, quoted=True), request)
    outcome = await problems.settle(deadline.work(work))
    if isinstance(outcome, RequestError):
        error = problems.error_detail(outcome)
        return [ascii_json(RejectedPhoto(index=index, name=upload.name, status=outcome.status, error=error))]
    content, confidence = outcome
    answer = SegmentedPhoto(
        index=index,
        name=upload.name,
        status=200,
        media_type=options.format.media_type,
        expected_iou=confidence.expected_iou,
        low_confidence=confidence.low_confidence,
        unpainted=confidence.unpainted,
        result="",
    )
    return splice(ascii_json(answer), content)


def _work(
    state: State, upload: Upload, options: SegmentOptions, model: Segmenter, quoted: bool = False
) -> Callable[[], tuple[bytes, Confidence]]:
    """What a thread does for one photo; `quoted` makes pictures JSON strings in base64."""

    def encode(segmentation: Segmentation) -> tuple[bytes, Confidence]:
        return options.format.encode(segmentation), Confidence.of(segmentation)

    def work() -> tuple[bytes, Confidence]:
        if len(upload.data) > state.settings.max_body_bytes:
            raise too_many_bytes(state.settings.max_body_bytes)
        content, confidence = model.run(upload.data, options, encode)
        if quoted and options.format.media_type != JSON:
            content = b'"' + base64.b64encode(content) + b'"'
        return content, confidence

    return work


def _accept(request: Request) -> str:
    """The Accept header, whose list may be split over several header lines."""
    return ", ".join(request.headers.getlist("accept"))


def _headers(model: Segmenter) -> dict[str, str]:
    return {VERSION_HEADER: model.version, "Cache-Control": "no-store", "Vary": "Accept"}


_FIELDS = {
    "tags": "classes that the photo shows; only these and background can appear in the mask",
    "format": "format of the response; by default the Accept header chooses between png and json",
    "refine": "`smooth`, the default, lets the mask follow the colours and the edges of the photo, `crf` its edges by "
    "DenseCRF, which takes longer, and `none` leaves the mask as the network has it",
    "tile": "side in pixels of the overlapping tiles in which a larger photo is segmented, 0 for the whole photo at "
    "once; by default what the model says",
}
_ERRORS = (*BODY_ERRORS, NotAcceptable)
_PICTURE = {"type": "string", "format": "binary", "contentMediaType": PNG}
_FORMATS = "; ".join(f"`{each.name}`: {each.description}" for each in FORMATS.values())

OPERATIONS = [
    Operation(
        "POST", "/v1/segment", segment, {200: Reply({PNG: _PICTURE, JSON: JsonDocument}, _FORMATS, HEADERS)},
        _ERRORS, PhotoBody(_FIELDS),
    ),
    Operation(
        "POST", "/v1/segment/batch", segment_batch, {200: BatchResponse}, _ERRORS, PhotoBody(_FIELDS, many=True)
    ),
]  # fmt: skip
