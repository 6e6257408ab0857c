"""POST /v1/samples: photos with tags, for the next retraining."""

from collections.abc import Sequence
from functools import partial

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.http.deadline import Deadline
from service.http.options import read_tags
from service.http.request_body import only, read_form
from service.http.state import State, state_of
from service.telemetry import SAMPLES, request_id
from tagmask import photos
from tagmask.errors import NotFound
from tagmask.inbox import Inbox, Sample, check_tags

_LOOKED_AT = 256
"""Longer side in pixels to which a sample is decoded, only to see that it can be."""


async def add_sample(request: Request) -> Response:
    """Keep a photo with its tags: 201 for a new one, 200 for one that is known."""
    state, limits = state_of(request), state_of(request).settings
    state.access.check_user(request)
    inbox = inbox_of(state)
    deadline = Deadline(limits.max_seconds)
    with state.gate.place():
        form = await deadline.body(read_form(request, max_bytes=limits.max_body_bytes, max_files=1))
        tags = check_tags(read_tags(form.fields, (), limits.max_tags))
        upload = only(form)
        work = partial(keep, inbox, upload.data, tags, limits.max_pixels)
        return told(await deadline.work(state.gate.run(work, request)))


def inbox_of(state: State) -> Inbox:
    """The folder of samples. Raises NotFound where samples are off."""
    if state.inbox is None:
        raise NotFound("samples are off; start the service with TAGMASK_INBOX=folder to take them", code="samples_off")
    return state.inbox


def keep(inbox: Inbox, data: bytes, tags: Sequence[str], max_pixels: int) -> Sample:
    """Store the photo `data` with its tags, if it can be decoded. Raises RequestError for what is at fault."""
    photo = photos.decode(data, long_side=_LOOKED_AT, max_pixels=max_pixels)
    sample = inbox.add(data, tags, photo.media_type, photo.size, request_id.get())
    SAMPLES.labels("created" if sample.created else "known").inc()
    return sample


def told(sample: Sample) -> Response:
    """The answer that tells of a sample."""
    body = {"id": sample.id, "tags": list(sample.tags), "created": sample.created}
    return JSONResponse(body, 201 if sample.created else 200)
