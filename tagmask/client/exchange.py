"""What is said to a service, what its answers mean, and when to try again; without input, output or waiting.

Each method of Exchanges is a generator: it yields what to send, is sent what came of it, and returns what the caller
wants. Client and AsyncClient carry them out, each in its way.
"""

import random
import time
from base64 import b64decode
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any, Generic, TypeVar

import httpx

from tagmask.client.photo import Fields, Format, Photo, Refine, Tags, orders, photo_bytes, text_fields
from tagmask.client.result import Result, read_result
from tagmask.errors import RequestError, TagmaskError

VERSION_HEADER = "X-Model-Version"
_FIRST_PAUSE = 0.25
"""Seconds of the first pause at most; each may be twice as long as the one before."""

_DOUBLINGS = 5
"""After these, which make eight seconds, pauses grow no longer."""

Value = TypeVar("Value")


class NoAnswerError(TagmaskError):
    """No answer came in time, or none that Tagmask gives."""


@dataclass(frozen=True)
class Attempt:
    """One request to send, after `pause` seconds. None of its reads and writes may wait longer than `timeout` seconds.

    `request` are arguments of `httpx.Client.request`.
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
    """The next step of `exchange`, which `outcome` of the last one leads to."""
    try:
        return next(exchange) if outcome is None else exchange.send(outcome)
    except StopIteration as end:
        return Done(end.value)


@dataclass(frozen=True)
class Exchanges:
    """The exchanges of a client, each of about `timeout` seconds at most, and `retries` repetitions of a request.

    All requests can be repeated without harm. They raise RequestError for what the service refuses, NoAnswerError,
    OSError for a file that cannot be read, and ValueError for an array that is no photo.
    """

    timeout: float
    retries: int

    def __post_init__(self) -> None:
        if self.timeout <= 0 or self.retries < 0:
            raise ValueError(f"timeout={self.timeout}, retries={self.retries}; give seconds above 0, and 0 or more")

    def segment(self, image: Photo, tags: Tags, refine: Refine, formats: Iterable[Format]) -> Exchange[Result]:
        """One photo's result. A request a format; all are repeated when the model was changed in between."""
        photo, due = photo_bytes(image), self._deadline()
        wanted = orders(tags, refine, formats)
        for _ in range(self.retries + 1):
            answers = {}
            for name, fields in wanted.items():
                answers[name] = yield from self._answer(due, _post("v1/segment", [photo], fields))
            if len({answer.headers.get(VERSION_HEADER) for answer in answers.values()}) == 1:
                with _understood(answers["png"]):
                    return read_result({name: answer.content for name, answer in answers.items()})
        raise NoAnswerError("different models answered for different formats, again and again; ask for one format")

    def segment_batch(
        self, images: Iterable[Photo], tags: Tags, refine: Refine
    ) -> Exchange[list[Result | RequestError]]:
        """Each photo's mask, or what is wrong with it, in order."""
        photos, due = [photo_bytes(image) for image in images], self._deadline()
        fields = text_fields(tags, refine=refine, format="png")
        answer = yield from self._answer(due, _post("v1/segment/batch", photos, fields))
        with _understood(answer):
            return [_of_batch(each, answer.headers) for each in answer.json()["answers"]]

    def add_sample(self, image: Photo, tags: Tags) -> Exchange[dict[str, Any]]:
        """What the service tells of the kept photo."""
        photo, due = photo_bytes(image), self._deadline()
        answer = yield from self._answer(due, _post("v1/samples", [photo], text_fields(tags)))
        with _understood(answer):
            return dict(answer.json())

    def models(self) -> Exchange[list[dict[str, Any]]]:
        """What the service tells of each model."""
        answer = yield from self._answer(self._deadline(), {"method": "GET", "url": "v1/models"})
        with _understood(answer):
            return list(answer.json()["models"])

    def _deadline(self) -> float:
        return time.monotonic() + self.timeout

    def _answer(self, due: float, request: Mapping[str, Any]) -> Exchange[httpx.Response]:
        """The answer to `request`, if it is a good one, by `due` on the monotonic clock."""
        pause = 0.0
        for attempt in count():
            outcome = yield Attempt(request, pause, max(due - time.monotonic() - pause, 0.001))
            pause = pause_before_next(outcome, attempt)
            if not _is_passing(outcome) or attempt == self.retries or time.monotonic() + pause >= due:
                break
        if isinstance(outcome, httpx.RequestError):
            raise NoAnswerError(
                f"{outcome.request.url}: no answer at attempt {attempt + 1} ({type(outcome).__name__}: {outcome}); "
                "see that the service runs there, or give it more time by `timeout`"
            ) from outcome
        if not outcome.is_success:
            raise _refusal(outcome)
        return outcome


def pause_before_next(outcome: Outcome, attempt: int) -> float:
    """Seconds to wait after attempt number `attempt`, the first being 0.

    What the answer's Retry-After asks for in seconds, and a random time on top, up to one that doubles with each
    attempt, so that clients who were refused together do not come back together.
    """
    asked = outcome.headers.get("Retry-After", "") if isinstance(outcome, httpx.Response) else ""
    least = float(asked) if asked.isascii() and asked.isdigit() else 0
    return least + random.uniform(0, _FIRST_PAUSE * 2 ** min(attempt, _DOUBLINGS))


def _is_passing(outcome: Outcome) -> bool:
    """Whether it may be otherwise in a moment: the service is busy, starts, or stops."""
    if isinstance(outcome, httpx.Response):
        return outcome.status_code == httpx.codes.SERVICE_UNAVAILABLE
    return isinstance(outcome, httpx.NetworkError | httpx.RemoteProtocolError)


def _post(path: str, photos: Sequence[bytes], fields: Fields) -> dict[str, Any]:
    return {"method": "POST", "url": path, "files": [("image", ("photo", data)) for data in photos], "data": fields}


def _of_batch(told: Mapping[str, Any], headers: Mapping[str, str]) -> Result | RequestError:
    if "error" in told:
        return _fault(told["status"], told["error"], headers)
    return read_result({"png": b64decode(told["result"])})


def _refusal(answer: httpx.Response) -> RequestError:
    """What an answer with a bad status tells; it may come from a proxy that knows nothing of our problem documents."""
    try:
        return _fault(answer.status_code, answer.json()["error"], answer.headers)
    except (ValueError, KeyError, TypeError):
        message = f"{answer.url}: answered {answer.status_code} {answer.reason_phrase}: {answer.text[:200]}"
        told = {"message": message, "code": f"http_{answer.status_code}", "field": None, "limit": None}
        return _fault(answer.status_code, told, answer.headers)


def _fault(status: int, error: Mapping[str, Any], headers: Mapping[str, str]) -> RequestError:
    fault = RequestError(
        error["message"], code=error["code"], field=error["field"], limit=error["limit"], headers=headers
    )
    fault.status = status
    return fault


@contextmanager
def _understood(answer: httpx.Response) -> Iterator[None]:
    """Around the reading of a good answer, which may be that of something else than Tagmask."""
    try:
        yield
    except Exception as fault:  # decoders raise what they like
        raise NoAnswerError(
            f"{answer.url}: answered {answer.status_code}, but not as Tagmask does ({type(fault).__name__}: {fault}); "
            "see that it is the address of a Tagmask service"
        ) from fault
