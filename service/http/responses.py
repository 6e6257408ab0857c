"""Responses in JSON, made of the very types that the OpenAPI document describes."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel
from pydantic_core import to_json
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tagmask.formats import JSON

VERSION_HEADER = "X-Model-Version"

Data = bytes | memoryview


@dataclass(frozen=True)
class LazyBytes:
    """`length` bytes of a body that are made piece by piece while it is sent."""

    length: int
    pieces: Iterable[Data]

    def __len__(self) -> int:
        return self.length


Body = Sequence[Data | LazyBytes]


class PiecesResponse(Response):
    """A response whose body is `pieces`, one after the other, without a copy of all of them."""

    def __init__(self, pieces: Body, media_type: str, headers: Mapping[str, str]) -> None:
        super().__init__(headers={"Content-Length": str(sum(map(len, pieces))), **headers}, media_type=media_type)
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for part in self._pieces:
            for piece in part.pieces if isinstance(part, LazyBytes) else [part]:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})


def json_response(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A response whose body is `content`: a pydantic model or a dataclass."""
    return Response(to_json(content), status, headers, media_type=JSON)


def ascii_json(model: BaseModel) -> bytes:
    """`model` as JSON in ASCII, which can carry the lone surrogates that clients may send, unlike UTF-8."""
    return json.dumps(model.model_dump(mode="json"), separators=(",", ":")).encode()


def splice(start: bytes, *pieces: Data | LazyBytes) -> list[Data | LazyBytes]:
    """`start`, a JSON object whose last field is "" or [], with the JSON in `pieces` in place of that value.

    Large documents are encoded in worker threads; this joins them without parsing or copying.
    """
    assert start.endswith((b'""}', b"[]}"))
    return [start[:-3], *pieces, b"}"]


def fill_array(model: BaseModel, items: Iterable[Sequence[Data | LazyBytes]]) -> list[Data | LazyBytes]:
    """`model`, whose last field is [], as JSON, with `items`, the pieces of JSON values, in that field."""
    pieces = [piece for item in items for piece in (b",", *item)]
    return splice(ascii_json(model), b"[", *pieces[1:], b"]")
