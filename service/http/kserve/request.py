"""An inference request: a photo, its tags, and the requested outputs, each in JSON or in binary.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

import base64
import binascii
from dataclasses import dataclass

from pydantic import Field

from service.http.kserve.tensors import BINARY_SIZE, InputTensor, Parameters, Tensor
from service.http.options import read_options
from service.http.request_body import RequestModel, read_json
from tagmask.errors import BadRequest, Unprocessable
from tagmask.segmentation import Pixels
from tagmask.segmenter import SegmentOptions

INPUTS = {"image": ("BYTES", [1]), "tags": ("BYTES", [-1])}
OUTPUTS = {
    "mask": ("UINT8", [-1, -1]),
    "confidence": ("UINT8", [-1, -1]),
    "classes": ("BYTES", [-1]),
    "expected_iou": ("FP32", [-1]),
    "tag_probability": ("FP32", [-1]),
}
"""Datatype and shape by name, -1 for variable dimensions. `image` may also be UINT8 [-1, -1, 3].

`tag_probability` is empty for a model without a tag head; that of background is 1.
"""

LENGTH_HEADER = "Inference-Header-Content-Length"
"""The header with the number of bytes of JSON, when binary tensors follow it."""


class RequestedOutput(RequestModel):
    """An output that the client requests."""

    name: str
    parameters: Parameters | None = None


class InferenceRequest(RequestModel):
    """The JSON of a request."""

    id: str | None = None
    parameters: Parameters | None = None
    inputs: list[InputTensor] = Field(min_length=1)
    outputs: list[RequestedOutput] | None = None


@dataclass(frozen=True)
class Inference:
    """A request after its tensors are read; `outputs` maps names to whether they are requested in binary."""

    id: str | None
    photo: bytes | Pixels
    options: SegmentOptions
    outputs: dict[str, bool]


def read_inference(body: bytes, header_length: str | None, max_tags: int) -> Inference:
    """The request in `body`, of which the first `header_length` bytes, or all, are JSON.

    Raises BadRequest and Unprocessable, naming the tensor or field.
    """
    length = _json_length(header_length, len(body))
    request = read_json(InferenceRequest, body[:length])
    tensors = _tensors(request, memoryview(body)[length:])
    if "image" not in tensors:
        raise Unprocessable("no input 'image'; send a photo", code="missing_file", field="image")
    tags = [("tags", tag.decode(errors="replace")) for tag in tensors["tags"].elements()] if "tags" in tensors else []
    parameters = request.parameters or {}
    others = [(name, str(parameters[name])) for name in ("refine", "tile") if name in parameters]
    options = read_options([*tags, *others], "", max_tags)
    return Inference(request.id, _photo(tensors["image"]), options, _outputs(request))


def _json_length(header: str | None, body_length: int) -> int:
    if header is None:
        return body_length
    if not (header.isascii() and header.isdigit() and len(header) < 20) or int(header) > body_length:
        raise BadRequest(
            f"{LENGTH_HEADER} is {header[:100]!r}; send the number of bytes of JSON, at most the {body_length} of the "
            "body",
            field=LENGTH_HEADER,
        )
    return int(header)


def _tensors(request: InferenceRequest, binary: memoryview) -> dict[str, Tensor]:
    """The inputs by name; each takes its bytes from the start of what is left of `binary`."""
    tensors: dict[str, Tensor] = {}
    for tensor in request.inputs:
        if tensor.name not in INPUTS or tensor.name in tensors:
            problem = "appears twice" if tensor.name in tensors else "is not known"
            raise tensor.error(f"{problem}; the inputs are {', '.join(INPUTS)}")
        size = (tensor.parameters or {}).get(BINARY_SIZE)
        if size is None:
            tensors[tensor.name] = Tensor(tensor, None)
        elif type(size) is int and 0 <= size <= len(binary):
            tensors[tensor.name] = Tensor(tensor, binary[:size])
            binary = binary[size:]
        else:
            raise tensor.error(f"{BINARY_SIZE} is {str(size)[:100]}, but {len(binary)} bytes are left; send all of it")
    if len(binary):
        raise BadRequest(f"{len(binary)} bytes after the JSON belong to no tensor; assign them with {BINARY_SIZE}")
    return tensors


def _photo(image: Tensor) -> bytes | Pixels:
    if image.description.datatype == "UINT8":
        return image.pixels()
    files = image.elements()
    if len(files) != 1:
        raise image.description.error(f"has {len(files)} photos; send one per request")
    if image.binary is not None:
        return files[0]
    try:
        return base64.b64decode(files[0], validate=True)
    except binascii.Error as error:
        raise image.description.error("is text, but not base64; send binary data, or the file in base64") from error


def _outputs(request: InferenceRequest) -> dict[str, bool]:
    default = (request.parameters or {}).get("binary_data_output") is True
    outputs: dict[str, bool] = {}
    for output in request.outputs or [RequestedOutput(name="mask")]:
        if output.name not in OUTPUTS:
            known = ", ".join(OUTPUTS)
            message = f"output {output.name[:100]!r} is not known; the outputs are {known}"
            raise Unprocessable(message, code="unknown_output", field="outputs", limit=known)
        parameters = output.parameters or {}
        for unsupported in ("shared_memory_region", "classification"):
            if unsupported in parameters:
                message = f"output {output.name!r}: {unsupported} is not supported; leave it out"
                raise Unprocessable(message, code="bad_output", field="outputs")
        outputs[output.name] = parameters.get("binary_data", default) is True
    return outputs
