"""/health, /setup, /predict and /webhook, as Label Studio calls them."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response

from service.http import problems
from service.http.deadline import Deadline
from service.http.endpoints import samples
from service.http.label_studio.interface import read_interface
from service.http.label_studio.request import Event, PredictRequest, SetupRequest, Task
from service.http.label_studio.response import (
    HealthResponse,
    PredictResponse,
    SetupResponse,
    WebhookResponse,
    failed_item,
    log_refusal,
)
from service.http.label_studio.storage import read_photo
from service.http.label_studio.webhook import carry_out
from service.http.operation import BODY_ERRORS, Operation, Reply
from service.http.request_body import read_bytes, read_json
from service.http.responses import VERSION_HEADER, PiecesResponse, ascii_json, fill_array, json_response
from service.http.state import State, state_of
from service.http.transfer import transfer_of
from tagmask.errors import RequestError, TooLarge
from tagmask.formats import JSON, label_studio
from tagmask.inbox import Sample
from tagmask.segmenter import Segmenter, SegmentOptions

Result = TypeVar("Result")


async def health(request: Request) -> Response:
    """Whether the service responds and accepts the key.

    Label Studio informs its user of a 401.
    """
    with _logged():
        state_of(request).access.check_user(request)
    return json_response(HealthResponse(status="UP", model_class="Tagmask"))


async def setup(request: Request) -> Response:
    """The model version that will answer a project, if its labeling interface can be used."""
    await _process(request, lambda body: read_interface(read_json(SetupRequest, body).config))
    return json_response(SetupResponse(model_version=state_of(request).models.current.version))


async def predict(request: Request) -> Response:
    """A prediction or an error per task, in order.

    An error has no `result`: Label Studio would store an empty one as a prediction, and not request that task again.
    """
    state, limits = state_of(request), state_of(request).settings
    with _logged():
        state.access.check_user(request)
        deadline = transfer_of(request).deadline
        state.concurrency.admit(request)
        body = await _body(request)
        model = state.models.current
        jobs = await deadline.work(state.concurrency.run(partial(_read_jobs, state, model, body), request))
        turns = asyncio.Semaphore(limits.max_concurrent)  # lets other requests take turns with this one
        results = await asyncio.gather(*(_result(job, request, deadline, turns) for job in jobs))
    content = fill_array(PredictResponse(model_version=model.version, results=[]), ([result] for result in results))
    headers = {VERSION_HEADER: model.version, "Cache-Control": "no-store"}
    return PiecesResponse(content, JSON, headers)


async def webhook(request: Request) -> Response:
    """Store the photo of an annotation with its tags for the next retraining, or take tags back."""
    stored = await _process(request, partial(carry_out, state_of(request)))
    return json_response(WebhookResponse(stored), 201 if isinstance(stored, Sample) and stored.created else 200)


def _read_jobs(state: State, model: Segmenter, body: bytes) -> list[Callable[[], bytes]]:
    """What makes the prediction of each task of a request.

    Raises BadRequest and Unprocessable, also if the labeling interface has no control for the model's masks.
    """
    request = read_json(PredictRequest, body)
    interface = read_interface(request.config)
    encode = partial(label_studio.encode, controls=interface.brush(model.classes))

    def predict(task: Task) -> bytes:
        source = task.data.get(interface.data_field)
        photo = read_photo(source, state.settings.label_studio_files, state.settings.max_body_bytes)
        return model.run(photo, SegmentOptions(), encode)

    return [partial(predict, task) for task in request.tasks]


async def _result(job: Callable[[], bytes], request: Request, deadline: Deadline, turns: asyncio.Semaphore) -> bytes:
    """One task's prediction or error, as JSON."""

    async def in_turn() -> bytes:
        async with turns:
            return await state_of(request).concurrency.run(job, request)

    outcome = await problems.settle(deadline.work(in_turn()))
    if isinstance(outcome, bytes):
        return outcome
    return ascii_json(failed_item(outcome))


async def _process(request: Request, work: Callable[[bytes], Result]) -> Result:
    """The result of `work` on the body, in a thread."""
    state = state_of(request)
    with _logged():
        state.access.check_user(request)
        deadline = transfer_of(request).deadline
        state.concurrency.admit(request)
        body = await _body(request)
        return await deadline.work(state.concurrency.run(partial(work, body), request))


async def _body(request: Request) -> bytes:
    max_bytes = state_of(request).settings.max_body_bytes
    try:
        return await read_bytes(request, max_bytes)
    except TooLarge as error:
        message = (
            f"more than {max_bytes:,} bytes; configure Label Studio to send fewer tasks at a time, or raise "
            "TAGMASK_MAX_BODY_BYTES"
        )
        raise TooLarge(message, code=error.code, limit=max_bytes) from error


@contextmanager
def _logged() -> Iterator[None]:
    """Log why a request is refused."""
    try:
        yield
    except RequestError as error:
        log_refusal(error)
        raise


OPERATIONS = [
    Operation("GET", "/health", health, {200: HealthResponse}),
    Operation("POST", "/setup", setup, {200: SetupResponse}, BODY_ERRORS, SetupRequest),
    Operation("POST", "/predict", predict, {200: PredictResponse}, BODY_ERRORS, PredictRequest),
    Operation(
        "POST", "/webhook", webhook,
        {
            200: Reply({JSON: WebhookResponse}, "already known, changed, or nothing to store"),
            201: Reply({JSON: Sample}, "stored"),
        },
        samples.ERRORS, Event,
    ),
]  # fmt: skip
