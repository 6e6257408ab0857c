"""/health, /setup, /predict and /webhook, as Label Studio calls them."""

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.http import problems
from service.http.deadline import Deadline
from service.http.endpoints import samples
from service.http.endpoints.segment import VERSION_HEADER
from service.http.label_studio.interface import Interface, read_interface
from service.http.label_studio.request import AnnotationEvent, Event, PredictRequest, SetupRequest, Task
from service.http.label_studio.storage import read_photo
from service.http.request_body import read_bytes, read_document
from service.http.state import State, state_of
from service.models import Model
from tagmask.errors import RequestError, TooLarge
from tagmask.formats import JSON, label_studio
from tagmask.inbox import Sample, check_tags

log = logging.getLogger("tagmask.label_studio")

Result = TypeVar("Result")

ANNOTATED = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED")
"""Events whose photos are kept. Annotations that Label Studio makes of predictions are told of as ANNOTATIONS_CREATED;
nobody has looked at these."""


async def health(request: Request) -> Response:
    """The service answers, and knows the key: Label Studio tells its user so when this is 401."""
    with _logged():
        state_of(request).access.check_user(request)
    return JSONResponse({"status": "UP", "model_class": "Tagmask"})


async def setup(request: Request) -> Response:
    """Which version answers a project, if its labelling interface is of use."""
    await _worked(request, lambda body: read_interface(read_document(SetupRequest, body).config))
    return JSONResponse({"model_version": state_of(request).models.current.version})


async def predict(request: Request) -> Response:
    """A prediction for each task, in order. What is wrong with one task is told in its place, without a `result`:
    Label Studio would keep an empty one as a prediction, and not ask for that task again.
    """
    state, limits = state_of(request), state_of(request).settings
    with _logged():
        state.access.check_user(request)
        deadline = Deadline(limits.max_seconds)
        with state.gate.place():
            body = await _body(request, deadline)
            model = state.models.current
            job = await deadline.work(state.gate.run(partial(_read_job, state, model, body), request))
            turns = asyncio.Semaphore(limits.max_concurrent)  # other requests have theirs in between
            results = await asyncio.gather(*(_answer(job, task, request, deadline, turns) for task in job.tasks))
    head = json.dumps({"model_version": model.version}).encode()[:-1]
    headers = {VERSION_HEADER: model.version, "Cache-Control": "no-store"}
    return Response(head + b', "results": [' + b", ".join(results) + b"]}", media_type=JSON, headers=headers)


async def webhook(request: Request) -> Response:
    """Keep the photo of an annotation, with the tags that it gives: 201 for a new one, 200 for all else."""
    kept = await _worked(request, partial(_keep, state_of(request)))
    return samples.told(kept) if isinstance(kept, Sample) else JSONResponse({"status": "ignored", "reason": kept})


@dataclass(frozen=True)
class _Job:
    """A project's tasks, and how one of them is painted."""

    tasks: list[Task]
    paint: Callable[[Task], bytes]


def _read_job(state: State, model: Model, body: bytes) -> _Job:
    """Raises BadRequest and Unprocessable, also where the labelling interface has no place for the model's masks."""
    asked = read_document(PredictRequest, body)
    interface = read_interface(asked.config)
    write = partial(label_studio.encode, controls=interface.brush(model.info.classes))

    def paint(task: Task) -> bytes:
        return state.engine.paint(_photo(task, interface, state), (), "none", model, write)

    return _Job(asked.tasks, paint)


async def _answer(job: _Job, task: Task, request: Request, deadline: Deadline, turns: asyncio.Semaphore) -> bytes:
    """One task's prediction or fault, as JSON."""

    async def in_turn() -> bytes:
        async with turns:
            return await state_of(request).gate.run(partial(job.paint, task), request)

    outcome = await problems.outcome(deadline.work(in_turn()))
    if isinstance(outcome, bytes):
        return outcome
    _log(outcome)
    return json.dumps({"error": problems.error(outcome)}).encode()


def _keep(state: State, body: bytes) -> Sample | str:
    """The sample that an event gives, or why it gives none."""
    event = read_document(Event, body)
    if event.action not in ANNOTATED:
        return f"{event.action[:100]} tells of no annotation that somebody made"
    inbox = samples.inbox_of(state)
    told = read_document(AnnotationEvent, body)
    interface = read_interface(told.project.config)
    tags = interface.tags(told.annotation.result or [], state.models.current.info.classes)
    if told.annotation.was_cancelled or not tags:
        return "the annotation was skipped, or gives the photo no tag"
    return samples.keep(inbox, _photo(told.task, interface, state), check_tags(tags), state.settings.max_pixels)


def _photo(task: Task, interface: Interface, state: State) -> bytes:
    settings = state.settings
    return read_photo(task.data.get(interface.data_field), settings.label_studio_files, settings.max_body_bytes)


async def _worked(request: Request, work: Callable[[bytes], Result]) -> Result:
    """What `work` makes of the body, in one of the gate's threads."""
    state = state_of(request)
    with _logged():
        state.access.check_user(request)
        deadline = Deadline(state.settings.max_seconds)
        with state.gate.place():
            body = await _body(request, deadline)
            return await deadline.work(state.gate.run(partial(work, body), request))


async def _body(request: Request, deadline: Deadline) -> bytes:
    most = state_of(request).settings.max_body_bytes
    try:
        return await deadline.body(read_bytes(request, most))
    except TooLarge as fault:
        message = (
            f"more than {most:,} bytes; have Label Studio send fewer tasks at a time, or raise TAGMASK_MAX_BODY_BYTES"
        )
        raise TooLarge(message, code=fault.code, limit=most) from fault


@contextmanager
def _logged() -> Iterator[None]:
    """Log why a request is refused: Label Studio shows no more of the answer than its status."""
    try:
        yield
    except RequestError as fault:
        _log(fault)
        raise


def _log(fault: RequestError) -> None:
    log.warning("Label Studio is refused", extra={"code": fault.code, "reason": fault.message})
