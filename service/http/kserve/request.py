"""What an inference request asks for: a photo, its tags, and outputs, each in JSON or in binary.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

import base64
import binascii
from dataclasses import dataclass
from io import BytesIO

from PIL import Image
from pydantic import Field

from service.http.kserve.tensors import BINARY_SIZE, Described, Parameters, Tensor
from service.http.options import read_options
from service.http.request_body import Document, read_document
from tagmask.errors import BadRequest, Unprocessable
from tagmask.segmenter import Refine

INPUTS = {"image": ("BYTES", [1]), "tags": ("BYTES", [-1])}
OUTPUTS = {"mask": ("UINT8", [-1, -1]), "confidence": ("UINT8", [-1, -1]), "classes": ("BYTES", [-1])}
"""Datatype and shape by name, -1 for what differs from photo to photo. `image` may be UINT8 [-1, -1, 3] as well."""

UNASKED = "mask"
"""The output of a request that names none."""


class RequestedOutput(Document):
    """An output that is asked for."""

    name: str
    parameters: Parameters | None = None


class InferenceRequest(Document):
    """The JSON of a request."""

    id: str | None = None
    parameters: Parameters | None = None
    inputs: list[Described] = Field(min_length=1)
    outputs: list[RequestedOutput] | None = None


@dataclass(frozen=True)
class Question:
    """One photo to paint: its bytes, and what is wanted. `outputs` tells by name whether to answer in binary."""

    id: str | None
    photo: bytes
    tags: tuple[str, ...]
    refine: Refine
    outputs: dict[str, bool]


def read_question(body: bytes, header_length: str | None, max_tags: int) -> Question:
    """The question in `body`, of which the first `header_length` bytes, or all, are JSON.

    Raises BadRequest and Unprocessable, naming the tensor or field.
    """
    length = _length(header_length, len(body))
    request = read_document(InferenceRequest, body[:length])
    tensors = _tensors(request, memoryview(body)[length:])
    if "image" not in tensors:
        raise Unprocessable("no input 'image'; send a photo", code="missing_file", field="image")
    tags = [("tags", tag.decode(errors="replace")) for tag in tensors["tags"].elements()] if "tags" in tensors else []
    refine = (request.parameters or {}).get("refine", "none")
    order = read_options([*tags, ("refine", str(refine))], "", max_tags)
    return Question(request.id, _photo(tensors["image"]), order.tags, order.refine, _outputs(request))


def _length(given: str | None, most: int) -> int:
    if given is None:
        return most
    if not (given.isascii() and given.isdigit() and len(given) < 20) or int(given) > most:
        raise BadRequest(
            f"Inference-Header-Content-Length is {given[:100]!r}; make it the bytes of JSON, at most the {most} sent",
            field="Inference-Header-Content-Length",
        )
    return int(given)


def _tensors(request: InferenceRequest, binary: memoryview) -> dict[str, Tensor]:
    """The inputs by name; they take their bytes of `binary` one after another."""
    tensors: dict[str, Tensor] = {}
    for described in request.inputs:
        if described.name not in INPUTS or described.name in tensors:
            fault = "is given twice" if described.name in tensors else "is not known"
            raise described.fault(f"{fault}; the inputs are {', '.join(INPUTS)}")
        size = (described.parameters or {}).get(BINARY_SIZE)
        if size is None:
            tensors[described.name] = Tensor(described, None)
        elif type(size) is int and 0 <= size <= len(binary):
            tensors[described.name] = Tensor(described, binary[:size])
            binary = binary[size:]
        else:
            raise described.fault(
                f"{BINARY_SIZE} is {str(size)[:100]}, and {len(binary)} bytes are left; send them all"
            )
    if len(binary):
        raise BadRequest(f"{len(binary)} bytes after the JSON belong to no tensor; give them by {BINARY_SIZE}")
    return tensors


def _photo(image: Tensor) -> bytes:
    """A photo's file as it came; pixels are made one, a BMP, which keeps them and takes next to no time."""
    if image.described.datatype == "UINT8":
        file = BytesIO()
        Image.fromarray(image.pixels()).save(file, "BMP")
        return file.getvalue()
    files = image.elements()
    if len(files) != 1:
        raise image.described.fault(f"has {len(files)} photos, one a request is painted; send several requests")
    if image.binary is not None:
        return files[0]
    try:
        return base64.b64decode(files[0], validate=True)
    except binascii.Error as fault:
        raise image.described.fault("is text, but not base64; send binary data, or the file in base64") from fault


def _outputs(request: InferenceRequest) -> dict[str, bool]:
    usually = (request.parameters or {}).get("binary_data_output") is True
    outputs: dict[str, bool] = {}
    for wanted in request.outputs or [RequestedOutput(name=UNASKED)]:
        if wanted.name not in OUTPUTS:
            known = ", ".join(OUTPUTS)
            message = f"output {wanted.name[:100]!r} is not known; ask for {known}"
            raise Unprocessable(message, code="unknown_output", field="outputs", limit=known)
        asked = wanted.parameters or {}
        for unable in ("shared_memory_region", "classification"):
            if unable in asked:
                message = f"output {wanted.name!r}: {unable} is not supported; leave it out"
                raise Unprocessable(message, code="bad_output", field="outputs")
        outputs[wanted.name] = asked.get("binary_data", usually) is True
    return outputs
