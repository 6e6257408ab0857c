"""/v1/samples: photos with tags and corrections, for the next retraining, and forgetting them."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from service.http import corrections
from service.http.operation import BODY_ERRORS, KEY_ERRORS, Operation, PhotoBody, Reply
from service.http.options import read_tags
from service.http.request_body import read_form, uploads
from service.http.responses import json_response
from service.http.state import State, state_of
from service.http.transfer import transfer_of
from service.telemetry import SAMPLES, request_id
from tagmask import photos
from tagmask.corrections import Correction
from tagmask.errors import NotFound, StorageFull
from tagmask.formats import JSON
from tagmask.inbox import Inbox, Sample
from tagmask.learners import Learners, find_learners

ReadCorrection = Callable[[tuple[int, int]], Correction | None]
"""What reads the correction of a photo of a size, (height, width), if there is one."""

Stored = TypeVar("Stored", bound=Sample | None)

_CHECKED_SIDE = 256  # longer side in pixels at which a sample is decoded, only to check that it can be

ERRORS = (*BODY_ERRORS, NotFound, StorageFull)


async def add_sample(request: Request) -> Response:
    """Store a photo with its tags, and what a person says about its pixels, for the next retraining."""
    state, limits = state_of(request), state_of(request).settings
    state.access.check_user(request)
    inbox = inbox_of(state)
    deadline = transfer_of(request).deadline
    state.concurrency.admit(request)
    form = await read_form(request, max_bytes=limits.max_body_bytes, max_files=1, others=(corrections.FIELD,))
    tags = read_tags(form.fields, (corrections.CLASSES, corrections.COMPLETE), limits.max_tags)
    photo = uploads(form)[0].data
    served = state.models.served
    read = partial(corrections.sent_correction, form, tags, served.classes if served else ())
    work = partial(store_sample, inbox.add, photo, tags, limits.max_pixels, read)
    sample = await deadline.work(state.concurrency.run(work, request))
    return json_response(sample, 201 if sample.created else 200)


class ForgottenSample(BaseModel):
    """What was forgotten, the models of the store that learned from it, and those that do not record their samples."""

    id: str
    models: list[str]
    unknown: list[str]


async def forget_sample(request: Request) -> Response:
    """Forget a sample (admin key)."""
    state = state_of(request)
    state.access.check_admin(request)
    sample = request.path_params["id"]
    inbox, store = inbox_of(state), state.models.store
    if not await asyncio.to_thread(inbox.has, sample):
        raise NotFound(f"sample {sample}: not in the inbox; send the id of one that is", code="unknown_sample")
    await asyncio.to_thread(inbox.forget, sample)
    learners = await asyncio.to_thread(find_learners, store, [sample]) if store else Learners()
    return json_response(ForgottenSample(id=sample, models=list(learners.models), unknown=list(learners.unknown)))


def inbox_of(state: State) -> Inbox:
    """The folder of samples. Raises NotFound when samples are off."""
    if state.inbox is None:
        raise NotFound("samples are off; start the service with TAGMASK_INBOX=folder", code="samples_off")
    return state.inbox


def store_sample(
    add: Callable[..., Stored], data: bytes, tags: Sequence[str], max_pixels: int, read: ReadCorrection
) -> Stored:
    """Decode the photo `data`, and store it by `add`, a method of the inbox, with the correction that `read` returns.

    Tags that the correction shows are added to its tags. Raises RequestError if it cannot be decoded or stored.
    """
    photo = photos.decode(data, long_side=_CHECKED_SIDE, max_pixels=max_pixels)
    correction = read(photo.size)
    sample = add(
        data,
        [*tags, *(correction.shown if correction else ())],
        photo.media_type,
        photo.size,
        request_id.get(),
        correction,
    )
    if isinstance(sample, Sample):
        SAMPLES.labels("created" if sample.created else "known").inc()
    return sample


OPERATIONS = [
    Operation(
        "POST", "/v1/samples", add_sample,
        {
            200: Reply({JSON: Sample}, "already known; the sample now has the tags of both requests"),
            201: Reply({JSON: Sample}, "stored"),
        },
        ERRORS, PhotoBody(
            {
                "tags": "tags of the photo; background alone if it shows none of the classes",
                "classes": "names of the values of the correction, from 0, background, on; by default its own",
                "complete": "classes of which the correction shows all pixels",
            },
            files={
                "correction": "what a person says about pixels: a palette or greyscale PNG of the size of the photo, "
                "255 = unlabelled; it replaces the one before, and removes it if it labels nothing",
            },
        ),
    ),
    Operation("DELETE", "/v1/samples/{id}", forget_sample, {200: ForgottenSample}, (*KEY_ERRORS, NotFound)),
]  # fmt: skip
