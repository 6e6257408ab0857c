"""Responses in JSON, made of the very types that the OpenAPI document describes."""

import json
from collections.abc import Mapping

from pydantic import BaseModel
from pydantic_core import to_json
from starlette.responses import Response

from tagmask.formats import JSON

VERSION_HEADER = "X-Model-Version"

Data = bytes | memoryview


def json_response(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A response whose body is `content`: a pydantic model or a dataclass."""
    return Response(to_json(content), status, headers, media_type=JSON)


def ascii_json(model: BaseModel) -> bytes:
    """`model` as JSON in ASCII, which can carry the lone surrogates that clients may send, unlike UTF-8."""
    return json.dumps(model.model_dump(mode="json"), separators=(",", ":")).encode()


def splice(start: bytes, *pieces: Data) -> list[Data]:
    """`start`, a JSON object whose last field is "" or [], with the JSON in `pieces` in place of that value.

    Large documents are encoded in worker threads; this joins them without parsing or copying.
    """
    assert start.endswith((b'""}', b"[]}"))
    return [start[:-3], *pieces, b"}"]


def fill_array(model: BaseModel, items: list[bytes]) -> bytes:
    """`model`, whose last field is [], as JSON, with `items`, which are JSON, in that field."""
    return b"".join(splice(ascii_json(model), b"[", b",".join(items), b"]"))
