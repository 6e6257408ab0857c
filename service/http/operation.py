"""One operation of the OpenAPI document: what it takes, what it answers, and its faults."""

from service.http.problems import MEDIA_TYPE as PROBLEM
from service.http.schemas import TEXT, Schema, reference
from tagmask import errors
from tagmask.errors import RequestError
from tagmask.formats import JSON

Fault = type[RequestError]

OPEN: tuple[Fault, ...] = (errors.Internal,)
"""Faults of what anybody may ask for."""

KEYED: tuple[Fault, ...] = (errors.KeyMissing, errors.Forbidden, errors.Internal)
"""Faults of what needs a key."""

BODY: tuple[Fault, ...] = (
    *KEYED, errors.BadRequest, errors.BodyTimeout, errors.TooLarge, errors.Unprocessable, errors.Unavailable,
    errors.TimedOut,
)  # fmt: skip
"""Faults of what is sent something to work on."""

PHOTO: tuple[Fault, ...] = (*BODY, errors.UnsupportedType)
"""Faults of what is sent a photo."""

_HEADERS: Schema = {
    "X-Request-ID": {"schema": TEXT, "required": True},
    "X-Model-Version": {"schema": TEXT, "required": True, "description": "the model that answered"},
}
_OF_PROBLEMS: Schema = {PROBLEM: {"schema": reference("Problem")}}


def operation(
    name: str,
    summary: str,
    answers: dict[int, Schema],
    faults: tuple[Fault, ...],
    *,
    parameters: list[Schema] | None = None,
    body: Schema | None = None,
    keyed: bool = True,
    told_as: Schema = _OF_PROBLEMS,
) -> Schema:
    """An operation; `told_as` is the content of the responses that tell of faults."""
    responses = {str(status): answer for status, answer in answers.items()}
    for fault in sorted(faults, key=lambda each: each.status):
        responses[str(fault.status)] = _fault(fault, told_as)
    for response in responses.values():
        response["headers"] = response.get("headers", {}) | _HEADERS
    described: Schema = {"operationId": name, "summary": summary, "responses": responses}
    if parameters:
        described["parameters"] = parameters
    if body:
        described["requestBody"] = body
    if not keyed:
        described["security"] = []
    return described


def _fault(fault: Fault, content: Schema) -> Schema:
    response: Schema = {"description": (fault.__doc__ or fault.title).splitlines()[0], "content": content}
    named = {401: "WWW-Authenticate", 503: "Retry-After", 504: "Retry-After"}.get(fault.status)
    if named:
        response["headers"] = {named: {"schema": TEXT}}
    return response


def json_answer(schema: str, description: str = "done") -> Schema:
    """A response in JSON, of the component `schema`."""
    return {"description": description, "content": {JSON: {"schema": reference(schema)}}}


def json_body(schema: str) -> Schema:
    """A request's body in JSON, of the component `schema`."""
    return {"required": True, "content": {JSON: {"schema": reference(schema)}}}


def query(name: str, schema: Schema, description: str) -> Schema:
    """A parameter in the query string."""
    return {"name": name, "in": "query", "schema": schema, "description": description}


def in_path(name: str, schema: Schema = TEXT) -> Schema:
    """A part of the path."""
    return {"name": name, "in": "path", "required": True, "schema": schema}
