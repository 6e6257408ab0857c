"""Every fault in one JSON shape: RFC 9457's fields, and `error` for programs."""

import json
import logging

from starlette.requests import Request
from starlette.responses import Response

from service.errors import Internal, RequestError
from service.telemetry import request_id

log = logging.getLogger("tagmask.http")

MEDIA_TYPE = "application/problem+json"


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


def response(fault: RequestError) -> Response:
    """The response that tells of `fault`; in ASCII, as what a client sent need not be text that UTF-8 can carry."""
    return Response(json.dumps(problem(fault)), fault.status, fault.headers, media_type=MEDIA_TYPE)


async def answer(_: Request, fault: Exception) -> Response:
    """An exception handler in Starlette's sense."""
    assert isinstance(fault, RequestError)
    return response(fault)
