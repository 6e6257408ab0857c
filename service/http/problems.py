"""Every error in one JSON shape: RFC 9457's fields, and `error` for programs. KServe's protocol has its own shape."""

import logging
from collections.abc import Awaitable
from typing import TypeVar

from pydantic import BaseModel
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from service.http.responses import ascii_json
from service.telemetry import request_id
from tagmask.errors import Internal, RequestError
from tagmask.formats import JSON

log = logging.getLogger("tagmask.http")

MEDIA_TYPE = "application/problem+json"

Result = TypeVar("Result")


class ErrorDetail(BaseModel):
    """What went wrong: `code` is stable, `message` is for people; the others are null where they do not apply."""

    code: str
    message: str
    field: str | None
    limit: int | float | str | None
    request_id: str | None


class Problem(BaseModel):
    """An error response, as in RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    error: ErrorDetail


class InferenceError(BaseModel):
    """An error response of KServe's protocol."""

    error: str


class FailedItem(BaseModel):
    """What went wrong with one item of a request that has several."""

    error: ErrorDetail


def error_detail(error: RequestError) -> ErrorDetail:
    """`error`, with the id of the current request."""
    return ErrorDetail(
        code=error.code, message=error.message, field=error.field, limit=error.limit, request_id=request_id.get()
    )


def response(error: RequestError, path: str) -> Response:
    """The response that reports `error` to a request of `path`; the log has the cause of an internal one."""
    log_cause(error)
    if f"{path}/".startswith("/v2/"):
        body, media_type = ascii_json(InferenceError(error=error.message)), JSON
    else:
        problem = Problem(
            type=f"urn:tagmask:error:{error.code}",
            title=error.title,
            status=error.status,
            detail=error.message,
            error=error_detail(error),
        )
        body, media_type = ascii_json(problem), MEDIA_TYPE
    return Response(body, error.status, error.headers, media_type=media_type)


def unexpected() -> Internal:
    """The response to an exception that nobody expected; its traceback goes to the log."""
    log.exception("unexpected error")
    return Internal("internal error; report it with the id of this request")


def log_cause(error: RequestError) -> None:
    """Write to the log why the service failed, if an endpoint has reported it; the response does not say it."""
    if isinstance(error, Internal) and error.__cause__ is not None:
        log.error(error.message, extra={"code": error.code}, exc_info=error.__cause__)


async def settle(result: Awaitable[Result]) -> Result | RequestError:
    """`result`, or the error to report in its place. Raises ClientDisconnect."""
    try:
        return await result
    except ClientDisconnect:
        raise
    except RequestError as error:
        log_cause(error)
        return error
    except Exception:
        return unexpected()


async def handle(request: Request, error: Exception) -> Response:
    """Starlette's exception handler for RequestError."""
    assert isinstance(error, RequestError)
    problem = response(error, request.url.path)
    error.__traceback__ = None  # its frames hold what was read of the body, until the response is sent
    return problem
