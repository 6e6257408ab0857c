"""The interface described: every path, field, status and body, as an OpenAPI 3.1 document."""

from service.http import VERSION
from service.http.kserve import description as kserve
from service.http.kserve.request import InferenceRequest
from service.http.label_studio import description as label_studio
from service.http.label_studio.request import Event, PredictRequest, SetupRequest
from service.http.operation import KEYED, OPEN, PHOTO, in_path, json_answer, operation, query
from service.http.options import REFINEMENTS
from service.http.request_body import described
from service.http.schemas import DOCUMENTS, TEXT, Schema, reference, schemas
from service.settings import Settings
from tagmask import errors, photos
from tagmask.formats import FORMATS, JSON, PNG

_SENT = (InferenceRequest, SetupRequest, PredictRequest, Event)
"""Bodies of requests in JSON."""


def document(settings: Settings, *, closed: bool) -> Schema:
    """The document of a service with these settings; a `closed` one asks for a key."""
    keys: list[Schema] = [{"bearer": []}, {"key": []}]
    paths = _paths(settings) | kserve.paths() | label_studio.paths()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tagmask",
            "version": VERSION,
            "description": "POST a photo with its tags, get a mask of each tag's pixels.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": keys if closed else [{}, *keys],
        "paths": {path: _grouped(path, operations) for path, operations in paths.items()},
        "components": {
            "schemas": schemas() | described(*_SENT),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _paths(settings: Settings) -> Schema:
    photo = (*PHOTO, errors.NotAcceptable)
    return {
        "/v1/segment": {
            "post": operation(
                "segment", "The mask of a photo", {200: _masks()}, photo, parameters=_options(settings),
                body=_photo_body(settings, many=False),
            )
        },
        "/v1/segment/batch": {
            "post": operation(
                "segment_batch", "The masks of several photos, one answer each, in order", {200: json_answer("Batch")},
                photo, parameters=_options(settings), body=_photo_body(settings, many=True),
            )
        },
        "/v1/samples": {
            "post": operation(
                "add_sample", "Keep a photo with its tags for the next retraining",
                {200: json_answer("Sample", "known already; the tags of both are kept")}
                | {201: json_answer("Sample", "kept")},
                (*PHOTO, errors.NotFound, errors.StorageFull),
                parameters=[query("tags", _tags(settings), "tags of the photo")],
                body=_photo_body(settings, many=False, options=("tags",)),
            )
        },
        "/v1/models": {"get": operation("list_models", "Every model", {200: json_answer("Models")}, KEYED)},
        "/v1/models/{version}": {
            "get": operation(
                "show_model", "One model", {200: json_answer("Model")}, (*KEYED, errors.NotFound),
                parameters=[in_path("version")],
            )
        },
        "/v1/models/{version}/activate": {
            "post": operation(
                "activate", "Make a model the champion and serve it (admin key)", {200: json_answer("Model")},
                (*KEYED, errors.NotFound, errors.Refused), parameters=[in_path("version")],
            )
        },
        "/v1/models/rollback": {
            "post": operation(
                "rollback", "Go back to the champion before (admin key)", {200: json_answer("Model")},
                (*KEYED, errors.Refused),
            )
        },
        "/livez": {"get": operation("livez", "The process answers", {200: json_answer("Alive")}, OPEN, keyed=False)},
        "/readyz": {"get": operation("readyz", "A model is at work", {200: json_answer("Ready")}, OPEN, keyed=False)},
        "/metrics": {
            "get": operation(
                "metrics", "Prometheus metrics",
                {200: {"description": "text format", "content": {"text/plain": {"schema": TEXT}}}}, KEYED,
            )
        },
        "/openapi.json": {
            "get": operation(
                "openapi", "This document",
                {200: {"description": "OpenAPI 3.1", "content": {JSON: {"schema": {"type": "object"}}}}}, OPEN,
                keyed=False,
            )
        },
        "/docs": {
            "get": operation(
                "docs", "This document as a page to read and to try",
                {200: {"description": "HTML", "content": {"text/html": {"schema": TEXT}}}}, OPEN, keyed=False,
            )
        },
    }  # fmt: skip


def _grouped(path: str, operations: Schema) -> Schema:
    groups = {"/v1/segment": "masks", "/v1/samples": "new photos", "/v1/models": "models", "/v2": "KServe V2"}
    groups |= dict.fromkeys(("/health", "/setup", "/predict", "/webhook"), "Label Studio")
    group = next((name for start, name in groups.items() if path.startswith(start)), "operations")
    return {method: operation | {"tags": [group]} for method, operation in operations.items()}


def _masks() -> Schema:
    kinds = "; ".join(f"`{each.name}`: {each.description}" for each in FORMATS.values())
    return {
        "description": kinds,
        "content": {
            PNG: {"schema": {"type": "string", "format": "binary", "contentMediaType": PNG}},
            JSON: {"schema": {"anyOf": [reference(name) for name in DOCUMENTS]}},
        },
    }


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
        query("tags", _tags(settings), "what the photo shows; only these and background can appear"),
        query("format", _format(), "what the answer looks like; the Accept header chooses between png and json"),
        query("refine", _refine(), "`crf` sharpens edges by DenseCRF, at the cost of time"),
    ]


def _tags(settings: Settings) -> Schema:
    return {"type": "array", "items": TEXT, "maxItems": settings.max_tags}


def _format() -> Schema:
    return {"type": "string", "enum": list(FORMATS)}


def _refine() -> Schema:
    return {"type": "string", "enum": list(REFINEMENTS)}
