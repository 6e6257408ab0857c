"""Every fault in one JSON shape: RFC 9457's fields, and `error` for programs."""

from starlette.requests import Request
from starlette.responses import JSONResponse

from service.errors import RequestError
from service.telemetry import request_id

MEDIA_TYPE = "application/problem+json"


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


def answer(_: Request | None, fault: Exception) -> JSONResponse:
    """The response for `fault`; an exception handler in Starlette's sense."""
    assert isinstance(fault, RequestError)
    return JSONResponse(problem(fault), fault.status, fault.headers, media_type=MEDIA_TYPE)
