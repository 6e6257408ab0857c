"""Responses of KServe's protocol; that to an inference is JSON, then the bytes of outputs that are sent in binary."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, NonNegativeInt
from pydantic_core import to_json

from service.http.confidence import Confidence
from service.http.kserve.request import OUTPUTS, Inference
from service.http.kserve.tensors import BINARY_SIZE, Parameters
from service.http.responses import Body, Data, LazyBytes, splice
from tagmask.segmentation import Pixels, Segmentation

MODEL = "tagmask"
"""The name of the only model; its versions are those of the store."""

# Each uint8 as four bytes of a JSON list, so that a mask becomes a list by a table lookup.
_NUMBERS = np.frombuffer(b"".join(b"%3d," % value for value in range(256)), dtype=np.uint32)
_PIECE = 65_536  # values that become text at a time


class ServerLive(BaseModel):
    """The process responds."""

    live: bool


class ServerReady(BaseModel):
    """A model is served."""

    ready: bool


class ServerMetadata(BaseModel):
    """The server, and the extensions of the protocol that it supports."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(BaseModel):
    """An input or output; -1 stands for variable dimensions."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    """The model's versions, inputs and outputs, which are the same in all versions."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ModelReady(BaseModel):
    """Whether the model would answer."""

    name: str
    ready: bool


class OutputTensor(BaseModel):
    """An output; `data` is absent when its elements are in binary."""

    name: str
    datatype: str
    shape: list[NonNegativeInt]
    parameters: Parameters | None = None
    data: list[Any] | None = None


class InferenceResponse(BaseModel):
    """The requested outputs, in the order of the request; `id` is that of the request, if it has one.

    Parameters are `expected_iou`, the intersection over union to expect of the mask; `low_confidence`, whether that is
    below the limit of the service; and `unpainted`, the given tags that are painted nowhere, separated by commas.
    """

    id: str | None = None
    model_name: str
    model_version: str
    parameters: Parameters
    outputs: list[OutputTensor]


@dataclass(frozen=True)
class EncodedResponse:
    """A body and, if binary tensors follow its JSON, the number of bytes of JSON."""

    body: Body
    header_length: int | None


def encode_response(segmentation: Segmentation, inference: Inference) -> EncodedResponse:
    """The outputs of `segmentation` that `inference` requests, in its order."""
    outputs: list[Data | LazyBytes] = []
    binary: list[Data | LazyBytes] = []
    for name, in_binary in inference.outputs.items():
        shape, data = _output(segmentation, name, in_binary)
        parameters = {BINARY_SIZE: len(data)} if in_binary else None
        tensor = OutputTensor(
            name=name, datatype=OUTPUTS[name][0], shape=shape, parameters=parameters, data=None if in_binary else []
        )
        start = tensor.model_dump_json(exclude_none=True).encode()
        outputs += [b",", start] if in_binary else [b",", *splice(start, b"[", data, b"]")]
        binary += [data] if in_binary else []
    response = InferenceResponse(
        id=inference.id,
        model_name=MODEL,
        model_version=segmentation.model.version,
        parameters=Confidence.of(segmentation).parameters,
        outputs=[],
    )
    start = response.model_dump_json(exclude_none=True).encode()
    json = splice(start, b"[", *outputs[1:], b"]")
    return EncodedResponse([*json, *binary], sum(map(len, json)) if binary else None)


def _output(segmentation: Segmentation, name: str, in_binary: bool) -> tuple[list[int], Data | LazyBytes]:
    """Shape and data of the output `name`, in binary or as the content of a JSON list."""
    if name == "classes":
        classes = segmentation.model.classes
        texts = (name.encode() for name in classes)
        prefixed = b"".join(struct.pack("<I", len(text)) + text for text in texts)
        return [len(classes)], prefixed if in_binary else to_json(classes)[1:-1]
    if name == "expected_iou":
        ious = [segmentation.expected_ious.get(label, 0.0) for label in range(len(segmentation.model.classes))]
        return _floats(ious, in_binary)
    if name == "tag_probability":
        probabilities = segmentation.tag_probabilities
        return _floats([1.0, *probabilities.values()] if probabilities else [], in_binary)
    plane = segmentation.mask if name == "mask" else segmentation.confidence
    return list(plane.shape), plane.reshape(-1).data if in_binary else _numbers(plane.reshape(-1))


def _floats(values: list[float], in_binary: bool) -> tuple[list[int], Data | LazyBytes]:
    """Shape and data of an output of datatype FP32."""
    return [len(values)], np.array(values, dtype="<f4").tobytes() if in_binary else to_json(values)[1:-1]


def _numbers(values: Pixels) -> LazyBytes:
    """`values` (n) as numbers separated by commas, four bytes each."""

    def pieces() -> Iterator[Data]:
        for start in range(0, len(values), _PIECE):
            end = start + _PIECE
            numbers = np.take(_NUMBERS, values[start:end]).view(np.uint8).data
            yield numbers if end < len(values) else numbers[:-1]

    return LazyBytes(4 * len(values) - 1, pieces())
