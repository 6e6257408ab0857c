"""KServe's V2 protocol in the OpenAPI document."""

from functools import partial

from service.http.kserve.response import MODEL
from service.http.operation import KEYED, OPEN, PHOTO, in_path, json_answer, json_body, operation
from service.http.schemas import Schema, reference
from tagmask import errors
from tagmask.formats import JSON

_BINARY = "application/octet-stream"
_operation = partial(operation, told_as={JSON: {"schema": reference("V2Error")}})


def paths() -> Schema:
    """The operations by path and method."""
    found = (*KEYED, errors.NotFound)
    described = {
        "/v2": {"get": _operation("v2_server", "What the server is called", {200: json_answer("V2Server")}, KEYED)},
        "/v2/health/live": {
            "get": _operation("v2_live", "The process answers", {200: json_answer("V2Live")}, OPEN, keyed=False)
        },
        "/v2/health/ready": {
            "get": _operation("v2_ready", "A model is at work", {200: json_answer("V2Ready")}, OPEN, keyed=False)
        },
    }
    for path, start, version in (
        ("/v2/models/{name}", "v2_model", []),
        ("/v2/models/{name}/versions/{version}", "v2_version", [in_path("version")]),
    ):
        within = [in_path("name", {"const": MODEL}), *version]
        described |= {
            path: {
                "get": _operation(start, "Inputs and outputs", {200: json_answer("V2Model")}, found, parameters=within)
            },
            path + "/ready": {
                "get": _operation(
                    start + "_ready", "It would answer", {200: json_answer("V2ModelReady")}, (*found, errors.Refused),
                    parameters=within,
                )
            },
            path + "/infer": {"post": _infer(start + "_infer", within)},
        }  # fmt: skip
    return described


def _infer(name: str, within: list[Schema]) -> Schema:
    length = {
        "name": "Inference-Header-Content-Length",
        "in": "header",
        "schema": {"type": "integer", "minimum": 0},
        "description": "bytes of JSON, where tensors in binary follow it",
    }
    bytes_: Schema = {"schema": {"type": "string", "format": "binary", "contentMediaType": _BINARY}}
    described = _operation(
        name, "The mask of a photo", {200: json_answer("V2Answer")}, (*PHOTO, errors.NotFound, errors.Refused),
        parameters=[*within, length], body=json_body("InferenceRequest"),
    )  # fmt: skip
    described["requestBody"]["content"][_BINARY] = bytes_
    described["responses"]["200"]["content"][_BINARY] = bytes_
    return described
