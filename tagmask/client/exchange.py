"""Requests to a service, the interpretation of its responses, and retries; without I/O or waiting.

Each method of Exchanges is a generator: it yields a request to send, receives the outcome, and returns the result.
Client and AsyncClient drive them. Retries are our own, as one deadline bounds the pauses, the server's Retry-After and
the time limit of each request; stamina and httpx-retries leave the time limit of a request as it is.
"""

import random
import time
from base64 import b64decode
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import httpx

from tagmask.errors import RequestError, TagmaskError
from tagmask.inputs import Photo, Refine, Tags, photo_bytes, split_tags
from tagmask.result import FormatName, Result, read_result

if TYPE_CHECKING:
    from tagmask.corrections import Correction

VERSION_HEADER = "X-Model-Version"
_FIRST_PAUSE = 0.25  # the longest, in seconds; the limit doubles with each attempt
_DOUBLINGS = 5  # of that limit, up to eight seconds

Value = TypeVar("Value")
Fields = dict[str, list[str]]


class NoAnswerError(TagmaskError):
    """No response in time, or one that is not from Tagmask."""


@dataclass(frozen=True)
class Attempt:
    """One request to send after `pause` seconds, none of whose reads and writes may wait longer than `timeout` seconds.

    `request` holds the arguments of `httpx.Client.request`.
    """

    request: Mapping[str, Any]
    pause: float
    timeout: float


@dataclass(frozen=True)
class Done(Generic[Value]):
    """The end of an exchange."""

    value: Value


Outcome = httpx.Response | httpx.RequestError
Exchange = Generator[Attempt, Outcome, Value]


def advance(exchange: Exchange[Value], outcome: Outcome | None = None) -> Attempt | Done[Value]:
    """The next step of `exchange` after the `outcome` of the last one."""
    try:
        return next(exchange) if outcome is None else exchange.send(outcome)
    except StopIteration as end:
        return Done(end.value)


@dataclass(frozen=True)
class Exchanges:
    """The exchanges of a client, each of about `timeout` seconds at most and with `retries` retries of a request.

    All requests are safe to repeat. They raise RequestError for what the service refuses, NoAnswerError, OSError for a
    file that cannot be read, and ValueError for an array that is no photo.
    """

    timeout: float
    retries: int

    def __post_init__(self) -> None:
        if self.timeout <= 0 or self.retries < 0:
            raise ValueError(
                f"timeout={self.timeout}, retries={self.retries}; pass a timeout above 0 and 0 or more retries"
            )

    def segment(
        self, image: Photo, tags: Tags, refine: Refine, formats: Iterable[FormatName], tile: int | None
    ) -> Exchange[Result]:
        """One photo's result, by one request per format; all are repeated when the model changed in between."""
        photo, deadline = photo_bytes(image), self._deadline()
        fields = _options(tags, refine, tile)
        names = ("png", *formats)
        for _ in range(self.retries + 1):
            responses = {}
            for name in names:
                request = _post("v1/segment", [photo], fields | {"format": [name]})
                responses[name] = yield from self._response(deadline, request)
            if len({response.headers.get(VERSION_HEADER) for response in responses.values()}) == 1:
                with _reading(responses["png"]):
                    return read_result({name: response.content for name, response in responses.items()})
        raise NoAnswerError("the model changed between the formats' requests, again and again; request one format")

    def segment_batch(
        self, images: Iterable[Photo], tags: Tags, refine: Refine, tile: int | None
    ) -> Exchange[list[Result | RequestError]]:
        """Each photo's mask, or its error, in order."""
        photos, deadline = [photo_bytes(image) for image in images], self._deadline()
        fields = _options(tags, refine, tile) | {"format": ["png"]}
        response = yield from self._response(deadline, _post("v1/segment/batch", photos, fields))
        with _reading(response):
            return [_read_answer(each, response.headers) for each in response.json()["answers"]]

    def add_sample(self, image: Photo, tags: Tags, correction: "Correction | None") -> Exchange[dict[str, Any]]:
        """The service's description of the stored photo."""
        photo, deadline = photo_bytes(image), self._deadline()
        request = _post("v1/samples", [photo], {"tags": list(split_tags(tags))})
        if correction:
            request["files"].append(("correction", ("correction.png", correction.encode())))
        response = yield from self._response(deadline, request)
        with _reading(response):
            return dict(response.json())

    def models(self) -> Exchange[list[dict[str, Any]]]:
        """The service's description of each model."""
        response = yield from self._response(self._deadline(), {"method": "GET", "url": "v1/models"})
        with _reading(response):
            return list(response.json()["models"])

    def _deadline(self) -> float:
        return time.monotonic() + self.timeout

    def _response(self, deadline: float, request: Mapping[str, Any]) -> Exchange[httpx.Response]:
        """The successful response to `request` before `deadline` on the monotonic clock."""
        pause = 0.0
        for attempt in count():
            outcome = yield Attempt(request, pause, max(deadline - time.monotonic() - pause, 0.001))
            pause = pause_before_next(outcome, attempt)
            if not _is_transient(outcome) or attempt == self.retries or time.monotonic() + pause >= deadline:
                break
        if isinstance(outcome, httpx.RequestError):
            raise NoAnswerError(
                f"{outcome.request.url}: no response at attempt {attempt + 1} ({type(outcome).__name__}: {outcome}); "
                "check that the service runs at this address, or raise `timeout`"
            ) from outcome
        if not outcome.is_success:
            raise _read_refusal(outcome)
        return outcome


def pause_before_next(outcome: Outcome, attempt: int) -> float:
    """Seconds to wait after attempt number `attempt`, the first being 0.

    The response's Retry-After in seconds, plus a random time up to a limit that doubles with each attempt, so that
    clients that were refused together do not return together.
    """
    retry_after = outcome.headers.get("Retry-After", "") if isinstance(outcome, httpx.Response) else ""
    least = float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0
    return least + random.uniform(0, _FIRST_PAUSE * 2 ** min(attempt, _DOUBLINGS))


def _is_transient(outcome: Outcome) -> bool:
    """Whether a retry may succeed: the service is busy, starting or stopping, which a proxy may report as 502."""
    if isinstance(outcome, httpx.Response):
        return outcome.status_code in (httpx.codes.BAD_GATEWAY, httpx.codes.SERVICE_UNAVAILABLE)
    return isinstance(outcome, httpx.NetworkError | httpx.RemoteProtocolError)


def _post(path: str, photos: Sequence[bytes], fields: Fields) -> dict[str, Any]:
    return {"method": "POST", "url": path, "files": [("image", ("photo", data)) for data in photos], "data": fields}


def _options(tags: Tags, refine: Refine, tile: int | None) -> Fields:
    """The values of each form field; what is the default is left out, as older services may not know it."""
    fields = {"tags": list(split_tags(tags))}
    if refine != "smooth":
        fields["refine"] = [refine]
    if tile is not None:
        fields["tile"] = [str(tile)]
    return fields


def _read_answer(answer: Mapping[str, Any], headers: Mapping[str, str]) -> Result | RequestError:
    if "error" in answer:
        return _read_error(answer["status"], answer["error"], headers)
    return read_result({"png": b64decode(answer["result"])})


def _read_refusal(response: httpx.Response) -> RequestError:
    """The error of a response, which may come from a proxy and hold no problem document of ours."""
    try:
        return _read_error(response.status_code, response.json()["error"], response.headers)
    except (ValueError, KeyError, TypeError):
        message = f"{response.url}: answered {response.status_code} {response.reason_phrase}: {response.text[:200]}"
        error = {"message": message, "code": f"http_{response.status_code}", "field": None, "limit": None}
        return _read_error(response.status_code, error, response.headers)


def _read_error(status: int, error: Mapping[str, Any], headers: Mapping[str, str]) -> RequestError:
    fault = RequestError(
        error["message"], code=error["code"], field=error["field"], limit=error["limit"], headers=headers
    )
    fault.status = status
    return fault


@contextmanager
def _reading(response: httpx.Response) -> Iterator[None]:
    """Turn faults in reading a successful response, which may not be Tagmask's, into NoAnswerError."""
    try:
        yield
    except Exception as fault:  # decoders raise exceptions of all kinds
        raise NoAnswerError(
            f"{response.url}: answered {response.status_code}, but not as Tagmask does ({type(fault).__name__}: "
            f"{fault}); check that this is the address of a Tagmask service"
        ) from fault
