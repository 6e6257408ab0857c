"""The OpenAPI 3.1 document: every path, parameter, status and body, from the operations and the settings."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from pydantic import TypeAdapter

from service.http import VERSION
from service.http.operation import Operation, PhotoBody, Reply, Schema
from service.settings import Settings
from tagmask import photos
from tagmask.errors import KeyMissing, RequestError
from tagmask.formats import FORMATS, JSON, PNG
from tagmask.inputs import MAX_TILE, MIN_TILE, REFINEMENTS
from tagmask.masks import MAX_CLASSES

BINARY = "application/octet-stream"
TEXT: Schema = {"type": "string"}

Mode = Literal["validation", "serialization"]
Schemas = Mapping[tuple[Any, Mode], Schema]

_HEADERS: Schema = {
    "X-Request-ID": {"schema": TEXT, "required": True},
    "X-Model-Version": {"schema": TEXT, "description": "the model that answered, if one is served"},
}


def document(tags: Mapping[str, Iterable[Operation]], settings: Settings, *, closed: bool) -> Schema:
    """The document of a service with these operations, by tag, and settings; `closed` services require a key."""
    keys: list[Schema] = [{"bearer": []}, {"key": []}]
    types = {each for operations in tags.values() for operation in operations for each in _types(operation)}
    schemas, components = TypeAdapter.json_schemas(
        [(kind, mode, TypeAdapter(kind)) for kind, mode in sorted(types, key=str)],
        ref_template="#/components/schemas/{model}",
    )
    paths: dict[str, Schema] = {}
    for tag, operations in tags.items():
        for operation in operations:
            described = _operation(operation, settings, schemas) | {"tags": [tag]}
            paths.setdefault(operation.path, {})[operation.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tagmask",
            "version": VERSION,
            "description": "POST a photo and its tags, get a mask of the pixels of each tag.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": ".", "description": "where this document is, also below a path of a proxy"}],
        "security": keys if closed else [{}, *keys],
        "paths": paths,
        "components": {
            "schemas": components["$defs"],
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _types(operation: Operation) -> Iterator[tuple[Any, Mode]]:
    """The types whose schemas an operation needs."""
    if operation.body and not isinstance(operation.body, PhotoBody):
        yield operation.body, "validation"
    yield operation.error[1], "serialization"
    for reply in operation.replies.values():
        bodies = reply.content.values() if isinstance(reply, Reply) else [reply]
        yield from ((body, "serialization") for body in bodies if not isinstance(body, dict))


def _operation(operation: Operation, settings: Settings, schemas: Schemas) -> Schema:
    replies = {str(status): _reply(reply, schemas) for status, reply in operation.replies.items()}
    media_type, body = operation.error
    for error in sorted(operation.errors, key=lambda each: each.status):
        replies[str(error.status)] = _error(error, {media_type: {"schema": schemas[body, "serialization"]}})
    for reply in replies.values():
        reply["headers"] = reply.get("headers", {}) | _HEADERS
    name = operation.id or operation.endpoint.__name__
    summary = (operation.endpoint.__doc__ or "").partition("\n")[0].rstrip(".")
    described: Schema = {"operationId": name, "summary": summary, "responses": replies}
    if parameters := list(_parameters(operation, settings)):
        described["parameters"] = parameters
    if isinstance(operation.body, PhotoBody):
        described["requestBody"] = _photo_body(operation.body, settings)
    elif operation.body:
        content = {JSON: {"schema": schemas[operation.body, "validation"]}}
        described["requestBody"] = {"required": True, "content": content}
    if operation.binary:
        for each in (described["requestBody"], replies["200"]):
            each["content"][BINARY] = {"schema": _file(BINARY)}
    if KeyMissing not in operation.errors:
        described["security"] = []
    return described


def _reply(reply: Any, schemas: Schemas) -> Schema:
    if not isinstance(reply, Reply):
        reply = Reply({JSON: reply})
    content = {
        media_type: {"schema": body if isinstance(body, dict) else schemas[body, "serialization"]}
        for media_type, body in reply.content.items()
    }
    headers = {name: header | {"required": True} for name, header in reply.headers.items()}
    return {"description": reply.description, "content": content, "headers": headers}


def _error(error: type[RequestError], content: Schema) -> Schema:
    described: Schema = {"description": (error.__doc__ or error.title).splitlines()[0], "content": content}
    if header := {401: "WWW-Authenticate", 503: "Retry-After", 504: "Retry-After"}.get(error.status):
        described["headers"] = {header: {"schema": TEXT}}
    return described


def _parameters(operation: Operation, settings: Settings) -> Iterator[Schema]:
    for name in re.findall(r"{(\w+)}", operation.path):
        schema = (operation.path_schemas or {}).get(name, TEXT)
        yield {"name": name, "in": "path", "required": True, "schema": schema}
    yield from operation.headers
    if isinstance(operation.body, PhotoBody):
        schemas = _fields(settings)
        for name, description in operation.body.fields.items():
            yield {"name": name, "in": "query", "schema": schemas[name], "description": description}


def _fields(settings: Settings) -> dict[str, Schema]:
    """Schemas of the text fields that go with a photo."""
    return {
        "tags": {"type": "array", "items": TEXT, "maxItems": settings.max_tags},
        "classes": {"type": "array", "items": TEXT, "maxItems": MAX_CLASSES + 1},
        "complete": {"type": "array", "items": TEXT, "maxItems": MAX_CLASSES},
        "format": {"type": "string", "enum": list(FORMATS)},
        "refine": {"type": "string", "enum": list(REFINEMENTS)},
        "tile": {"type": "integer", "anyOf": [{"const": 0}, {"minimum": MIN_TILE, "maximum": MAX_TILE}]},
    }


def _photo_body(body: PhotoBody, settings: Settings) -> Schema:
    photo = _file(BINARY)
    if body.many:
        photo = {"type": "array", "items": photo, "minItems": 1, "maxItems": settings.max_files}
    fields = _fields(settings)
    form = {
        "type": "object",
        "properties": {
            "image": photo,
            **{name: _file(PNG) | {"description": description} for name, description in body.files.items()},
            **{name: fields[name] for name in body.fields},
        },
        "required": ["image"],
        "additionalProperties": False,
    }
    max_bytes = settings.max_batch_bytes if body.many else settings.max_body_bytes
    raw = {media_type: {"schema": _file(media_type)} for media_type in (*photos.MEDIA_TYPES, BINARY)}
    return {
        "description": f"at most {max_bytes:,} bytes, and {settings.max_pixels:,} pixels per photo",
        "required": True,
        "content": {"multipart/form-data": {"schema": form}, **raw},
    }


def _file(media_type: str) -> Schema:
    return {"type": "string", "format": "binary", "contentMediaType": media_type}
