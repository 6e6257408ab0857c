"""An operation: a route, and what the OpenAPI document says about it, in one place."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.http.problems import MEDIA_TYPE, Problem
from tagmask import errors
from tagmask.errors import RequestError

Schema = dict[str, Any]
"""JSON Schema, or a part of the OpenAPI document."""

Errors = tuple[type[RequestError], ...]

OPEN_ERRORS: Errors = (errors.Internal,)
"""Errors of operations that need no key."""

KEY_ERRORS: Errors = (errors.KeyMissing, errors.Forbidden, errors.Internal)
"""Errors of operations that need a key."""

BODY_ERRORS: Errors = (
    *KEY_ERRORS, errors.BadRequest, errors.BodyTimeout, errors.TooLarge, errors.Unprocessable, errors.Unavailable,
    errors.TimedOut, errors.UnsupportedType,
)  # fmt: skip
"""Errors of operations that process a request body."""


@dataclass(frozen=True)
class Reply:
    """A response: by media type, the type of its JSON body, or the JSON Schema of any other body; and its headers."""

    content: Mapping[str, Any]
    description: str = "Success"
    headers: Mapping[str, Schema] = field(default_factory=dict)


@dataclass(frozen=True)
class PhotoBody:
    """A body of one photo or of `many`, with text fields, by name with their descriptions, that may also be in the
    query string, and other files.
    """

    fields: Mapping[str, str]
    many: bool = False
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Operation:
    """`endpoint` answers `method` requests to `path`; the first line of its docstring is the summary.

    `replies` maps a status to a Reply, or to the type of a JSON body. `body` is a PhotoBody or the type of a JSON body.
    Path parameters are text unless `path_schemas` describes them. With `binary`, bodies may also be
    application/octet-stream. `error` is the media type and type of error bodies. `id` defaults to the endpoint's name.
    """

    method: Literal["GET", "POST", "DELETE"]
    path: str
    endpoint: Callable[[Request], Awaitable[Response]]
    replies: Mapping[int, Any]
    errors: Errors = KEY_ERRORS
    body: Any = None
    path_schemas: Mapping[str, Schema] | None = None
    headers: tuple[Schema, ...] = ()
    binary: bool = False
    error: tuple[str, type] = (MEDIA_TYPE, Problem)
    id: str = ""

    @property
    def route(self) -> Route:
        """The route that leads to the endpoint."""
        return Route(self.path, self.endpoint, methods=[self.method])
