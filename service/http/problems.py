"""Every fault in one JSON shape: RFC 9457's fields, and `error` for programs. KServe's protocol has one of its own."""

import json
import logging
from collections.abc import Awaitable
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from service.telemetry import request_id
from tagmask.errors import Internal, RequestError
from tagmask.formats import JSON

log = logging.getLogger("tagmask.http")

MEDIA_TYPE = "application/problem+json"

Result = TypeVar("Result")


def unforeseen() -> Internal:
    """What is answered when something fails that nobody foresaw; the log has the traceback."""
    log.exception("unforeseen fault")
    return Internal("something went wrong on our side; report it with this request's id")


def problem(fault: RequestError) -> dict[str, object]:
    """The body that tells of `fault`."""
    return {
        "type": f"urn:tagmask:error:{fault.code}",
        "title": fault.title,
        "status": fault.status,
        "detail": fault.message,
        "error": error(fault),
    }


def error(fault: RequestError) -> dict[str, object]:
    """code, message, field, limit and request_id; null where one does not apply."""
    return {
        "code": fault.code,
        "message": fault.message,
        "field": fault.field,
        "limit": fault.limit,
        "request_id": request_id.get(),
    }


def response(fault: RequestError, path: str) -> Response:
    """The response that tells of `fault` to who called `path`.

    It is in ASCII, as what a client sent need not be text that UTF-8 can carry.
    """
    of_kserve = f"{path}/".startswith("/v2/")
    body, media_type = ({"error": fault.message}, JSON) if of_kserve else (problem(fault), MEDIA_TYPE)
    return Response(json.dumps(body), fault.status, fault.headers, media_type=media_type)


async def outcome(working: Awaitable[Result]) -> Result | RequestError:
    """What comes of `working`, or the fault that is told in its place. Raises ClientDisconnect."""
    try:
        return await working
    except ClientDisconnect:
        raise
    except RequestError as fault:
        return fault
    except Exception:
        return unforeseen()


async def answer(request: Request, fault: Exception) -> Response:
    """An exception handler in Starlette's sense."""
    assert isinstance(fault, RequestError)
    return response(fault, request.url.path)
