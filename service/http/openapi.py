"""The interface described: every path, field, status and body, as an OpenAPI 3.1 document."""

from service import errors, photos
from service.errors import RequestError
from service.formats import FORMATS, JSON, PNG
from service.http.options import REFINEMENTS
from service.http.problems import MEDIA_TYPE as PROBLEM
from service.http.schemas import DOCUMENTS, TEXT, Schema, reference, schemas
from service.settings import Settings

Fault = type[RequestError]

_HEADERS: Schema = {
    "X-Request-ID": {"schema": TEXT, "required": True},
    "X-Model-Version": {"schema": TEXT, "required": True, "description": "the model that answered"},
}

_OPEN: tuple[Fault, ...] = (errors.Internal,)
_KEYED: tuple[Fault, ...] = (errors.KeyMissing, errors.Forbidden, errors.Internal)
_PHOTO: tuple[Fault, ...] = (
    *_KEYED, errors.BadRequest, errors.BodyTimeout, errors.TooLarge, errors.UnsupportedType, errors.Unprocessable,
    errors.Unavailable, errors.TimedOut,
)  # fmt: skip


def document(settings: Settings, *, closed: bool) -> Schema:
    """The document of a service with these settings; a `closed` one asks for a key."""
    keys: list[Schema] = [{"bearer": []}, {"key": []}]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tagmask",
            "version": "1.0.0",
            "description": "POST a photo with its tags, get a mask of each tag's pixels.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": keys if closed else [{}, *keys],
        "paths": {path: _grouped(path, operations) for path, operations in _paths(settings).items()},
        "components": {
            "schemas": schemas(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _paths(settings: Settings) -> Schema:
    photo = (*_PHOTO, errors.NotAcceptable)
    return {
        "/v1/segment": {
            "post": _operation(
                "segment", "The mask of a photo", {200: _masks()}, photo, parameters=_options(settings),
                body=_photo_body(settings, many=False),
            )
        },
        "/v1/segment/batch": {
            "post": _operation(
                "segment_batch", "The masks of several photos, one answer each, in order", {200: _json("Batch")}, photo,
                parameters=_options(settings), body=_photo_body(settings, many=True),
            )
        },
        "/v1/samples": {
            "post": _operation(
                "add_sample", "Keep a photo with its tags for the next retraining",
                {200: _json("Sample", "known already; the tags of both are kept"), 201: _json("Sample", "kept")},
                (*_PHOTO, errors.NotFound, errors.StorageFull),
                parameters=[_query("tags", _tags(settings), "tags of the photo")],
                body=_photo_body(settings, many=False, options=("tags",)),
            )
        },
        "/v1/models": {"get": _operation("list_models", "Every model", {200: _json("Models")}, _KEYED)},
        "/v1/models/{version}": {
            "get": _operation(
                "show_model", "One model", {200: _json("Model")}, (*_KEYED, errors.NotFound), parameters=[_version()]
            )
        },
        "/v1/models/{version}/activate": {
            "post": _operation(
                "activate", "Make a model the champion and serve it (admin key)", {200: _json("Model")},
                (*_KEYED, errors.NotFound, errors.Refused), parameters=[_version()],
            )
        },
        "/v1/models/rollback": {
            "post": _operation(
                "rollback", "Go back to the champion before (admin key)", {200: _json("Model")},
                (*_KEYED, errors.Refused),
            )
        },
        "/livez": {"get": _operation("livez", "The process answers", {200: _json("Alive")}, _OPEN, keyed=False)},
        "/readyz": {"get": _operation("readyz", "A model is at work", {200: _json("Ready")}, _OPEN, keyed=False)},
        "/metrics": {
            "get": _operation(
                "metrics", "Prometheus metrics",
                {200: {"description": "text format", "content": {"text/plain": {"schema": TEXT}}}}, _KEYED,
            )
        },
        "/openapi.json": {
            "get": _operation(
                "openapi", "This document",
                {200: {"description": "OpenAPI 3.1", "content": {JSON: {"schema": {"type": "object"}}}}}, _OPEN,
                keyed=False,
            )
        },
        "/docs": {
            "get": _operation(
                "docs", "This document as a page to read and to try",
                {200: {"description": "HTML", "content": {"text/html": {"schema": TEXT}}}}, _OPEN, keyed=False,
            )
        },
    }  # fmt: skip


def _grouped(path: str, operations: Schema) -> Schema:
    groups = {"/v1/segment": "masks", "/v1/samples": "new photos", "/v1/models": "models"}
    group = next((name for start, name in groups.items() if path.startswith(start)), "operations")
    return {method: operation | {"tags": [group]} for method, operation in operations.items()}


def _operation(
    name: str,
    summary: str,
    answers: dict[int, Schema],
    faults: tuple[Fault, ...],
    *,
    parameters: list[Schema] | None = None,
    body: Schema | None = None,
    keyed: bool = True,
) -> Schema:
    responses = {str(status): answer for status, answer in answers.items()}
    for fault in sorted(faults, key=lambda each: each.status):
        responses[str(fault.status)] = _fault(fault)
    for response in responses.values():
        response["headers"] = response.get("headers", {}) | _HEADERS
    operation: Schema = {"operationId": name, "summary": summary, "responses": responses}
    if parameters:
        operation["parameters"] = parameters
    if body:
        operation["requestBody"] = body
    if not keyed:
        operation["security"] = []
    return operation


def _fault(fault: Fault) -> Schema:
    response: Schema = {
        "description": (fault.__doc__ or fault.title).splitlines()[0],
        "content": {PROBLEM: {"schema": reference("Problem")}},
    }
    named = {401: "WWW-Authenticate", 503: "Retry-After", 504: "Retry-After"}.get(fault.status)
    if named:
        response["headers"] = {named: {"schema": TEXT}}
    return response


def _masks() -> Schema:
    kinds = "; ".join(f"`{each.name}`: {each.description}" for each in FORMATS.values())
    return {
        "description": kinds,
        "content": {
            PNG: {"schema": {"type": "string", "format": "binary", "contentMediaType": PNG}},
            JSON: {"schema": {"anyOf": [reference(name) for name in DOCUMENTS]}},
        },
    }


def _json(schema: str, description: str = "done") -> Schema:
    content = {JSON: {"schema": reference(schema)}}
    return {"description": description, "content": content}


def _photo_body(settings: Settings, *, many: bool, options: tuple[str, ...] = ("tags", "format", "refine")) -> Schema:
    photo: Schema = {"type": "string", "format": "binary", "contentMediaType": "application/octet-stream"}
    if many:
        photo = {"type": "array", "items": photo, "minItems": 1, "maxItems": settings.max_files}
    known = {"tags": _tags(settings), "format": _format(), "refine": _refine()}
    form = {
        "type": "object",
        "properties": {"image": photo, **{name: known[name] for name in options}},
        "required": ["image"],
        "additionalProperties": False,
    }
    kinds = (*photos.MEDIA_TYPES, "application/octet-stream")
    raw = {kind: {"schema": {"type": "string", "format": "binary", "contentMediaType": kind}} for kind in kinds}
    most = settings.max_batch_bytes if many else settings.max_body_bytes
    return {
        "description": f"at most {most:,} bytes, and {settings.max_pixels:,} pixels a photo",
        "required": True,
        "content": {"multipart/form-data": {"schema": form}, **raw},
    }


def _options(settings: Settings) -> list[Schema]:
    return [
        _query("tags", _tags(settings), "what the photo shows; only these and background can appear"),
        _query("format", _format(), "what the answer looks like; the Accept header chooses between png and json"),
        _query("refine", _refine(), "`crf` sharpens edges by DenseCRF, at the cost of time"),
    ]


def _query(name: str, schema: Schema, description: str) -> Schema:
    return {"name": name, "in": "query", "schema": schema, "description": description}


def _version() -> Schema:
    return {"name": "version", "in": "path", "required": True, "schema": TEXT}


def _tags(settings: Settings) -> Schema:
    return {"type": "array", "items": TEXT, "maxItems": settings.max_tags}


def _format() -> Schema:
    return {"type": "string", "enum": list(FORMATS)}


def _refine() -> Schema:
    return {"type": "string", "enum": list(REFINEMENTS)}
