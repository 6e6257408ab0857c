"""The answer to an inference request: JSON, then the bytes of those outputs that are wanted in binary."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from pydantic_core import to_json

from service.http.kserve.request import OUTPUTS, Question
from service.http.kserve.tensors import BINARY_SIZE
from tagmask.segmentation import Pixels, Segmentation

MODEL = "tagmask"
"""The one model's name; its versions are those of the store."""

_NUMBERS = np.frombuffer(b"".join(b"%3d," % value for value in range(256)), dtype=np.uint32)
"""Each uint8 as four bytes of a JSON list, so that a mask becomes one by a look-up."""

Data = bytes | memoryview


@dataclass(frozen=True)
class Answer:
    """A body and, where tensors in binary follow its JSON, the bytes of that."""

    content: bytes
    header_length: int | None


def write_answer(segmentation: Segmentation, question: Question) -> Answer:
    """The outputs that `question` wants of `segmentation`, in the order in which it names them."""
    head: list[Data] = []
    tail: list[Data] = []
    for name, binary in question.outputs.items():
        shape, data = _output(segmentation, name, binary)
        told: dict[str, object] = {"name": name, "datatype": OUTPUTS[name][0], "shape": shape}
        if binary:
            head += [b",", to_json(told | {"parameters": {BINARY_SIZE: len(data)}})]
            tail.append(data)
        else:
            head += [b",", to_json(told)[:-1], b',"data":[', data, b"]}"]
    asked = {} if question.id is None else {"id": question.id}
    start = to_json({"model_name": MODEL, "model_version": segmentation.model.version, **asked})
    json = b"".join([start[:-1], b',"outputs":[', *head[1:], b"]}"])
    return Answer(b"".join([json, *tail]), len(json) if tail else None)


def _output(segmentation: Segmentation, name: str, binary: bool) -> tuple[list[int], Data]:
    """Shape and data of the output `name`, in binary or as what stands between the brackets of a JSON list."""
    if name == "classes":
        classes = segmentation.model.classes
        return [len(classes)], _packed(classes) if binary else to_json(classes)[1:-1]
    plane = segmentation.mask if name == "mask" else segmentation.confidence
    return list(plane.shape), plane.tobytes() if binary else _listed(plane)


def _packed(texts: Iterable[str]) -> bytes:
    return b"".join(struct.pack("<I", len(data)) + data for data in (text.encode() for text in texts))


def _listed(plane: Pixels) -> memoryview:
    """`plane` (H, W) as numbers separated by commas, four bytes each."""
    return np.take(_NUMBERS, plane.reshape(-1)).view(np.uint8).data[:-1]
