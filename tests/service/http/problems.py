"""The shape that all errors have in common."""

from typing import Any

import httpx

from tagmask.errors import RequestError


def _all(kind: type[RequestError]) -> list[type[RequestError]]:
    return [each for below in kind.__subclasses__() for each in (below, *_all(below))]


TITLES = {each.status: each.title for each in _all(RequestError)}


def read_problem(answer: httpx.Response) -> dict[str, Any]:
    """`error` of an error response, after checking its shape."""
    assert answer.status_code >= 400, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    body = answer.json()
    error = body["error"]
    assert ("X-Model-Version" in answer.headers) == (error["code"] != "no_model")
    assert isinstance(error, dict)
    assert list(error) == ["code", "message", "field", "limit", "request_id"]
    assert body == {
        "type": f"urn:tagmask:error:{error['code']}",
        "title": body["title"] if answer.status_code in (401, 503) else TITLES[answer.status_code],
        "status": answer.status_code,
        "detail": error["message"],
        "error": error,
    }
    assert error["request_id"] == answer.headers["X-Request-ID"]
    assert "Traceback" not in answer.text
    return error


def assert_problem(
    answer: httpx.Response, status: int, code: str, field: str | None = None, limit: float | str | None = None
) -> dict[str, Any]:
    """`error` of a response that must report exactly this error."""
    error = read_problem(answer)
    actual = (answer.status_code, error["code"], error["field"], error["limit"])
    assert actual == (status, code, field, limit), error["message"]
    return error
