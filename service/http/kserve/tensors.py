"""Input tensors of an inference request: described in JSON, with their elements in the JSON or in binary after it.

Binary data is little-endian, in row-major order; an element of datatype BYTES is its length as uint32 and its bytes.
https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/protocol/extension_binary_data.html
"""

import math
import struct
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from service.http.request_body import RequestModel
from tagmask.errors import Unprocessable
from tagmask.segmentation import Pixels

Parameters = dict[str, bool | int | float | str]

BINARY_SIZE = "binary_data_size"
_MAX_TEXTS = 1000  # each takes some 80 bytes, for as little as 4 of the request
_LENGTH = struct.Struct("<I")


class InputTensor(RequestModel):
    """An input tensor; `data` is absent when its elements are in binary."""

    name: str
    shape: list[Annotated[int, Field(le=2**31)]] = Field(max_length=8)
    datatype: str
    parameters: Parameters | None = None
    data: Any = None

    def error(self, message: str) -> Unprocessable:
        """The error for a tensor that cannot be used."""
        name = self.name[:100]
        return Unprocessable(f"tensor {name!r}: {message}", code="bad_tensor", field=name)


@dataclass(frozen=True)
class Tensor:
    """A tensor and, if its elements are in binary, their bytes."""

    description: InputTensor
    binary: memoryview | None

    def elements(self) -> list[bytes]:
        """The elements of datatype BYTES, in order; text in JSON is encoded in UTF-8.

        Raises Unprocessable for another datatype, if their number differs from the shape, and for more than _MAX_TEXTS.
        """
        self._require("BYTES")
        count = math.prod(self.description.shape)
        if count > _MAX_TEXTS:
            raise self.description.error(f"has {count:,} elements by its shape, more than {_MAX_TEXTS:,}; send fewer")
        elements = self._texts() if self.binary is None else self._split(self.binary, count)
        if len(elements) != count:
            actual = f"more than {count}" if len(elements) > count else len(elements)
            raise self.description.error(f"has {actual} elements, but {count} by its shape; correct either")
        return elements

    def pixels(self) -> Pixels:
        """(H, W, 3) uint8 of a tensor of datatype UINT8 and shape [H, W, 3] or [1, H, W, 3]. Raises Unprocessable."""
        self._require("UINT8")
        shape = self.description.shape
        size = shape[1:] if len(shape) == 4 and shape[0] == 1 else shape
        if len(size) != 3 or size[2] != 3 or min(size) < 1:
            raise self.description.error(f"has shape {shape}; send one photo, [H, W, 3] or [1, H, W, 3], in RGB order")
        values = self._numbers() if self.binary is None else self.binary
        if len(values) != math.prod(size):
            raise self.description.error(
                f"has {len(values)} values, but {math.prod(size)} by its shape; correct either"
            )
        return np.frombuffer(values, dtype=np.uint8).reshape(size)

    def _require(self, datatype: str) -> None:
        if self.description.datatype != datatype:
            actual = self.description.datatype[:100]
            raise self.description.error(f"has datatype {actual!r}, which is not supported; send {datatype}")

    def _flat(self) -> list[Any]:
        """The elements in JSON: a list, which may be nested by dimension."""
        data = self.description.data
        if not isinstance(data, list):
            raise self.description.error(f"has no data; send a list as `data`, or binary data with {BINARY_SIZE}")
        for _ in self.description.shape[1:]:
            if data and all(isinstance(row, list) for row in data):
                data = list(chain.from_iterable(data))
        return data

    def _numbers(self) -> bytes:
        try:
            return bytes(self._flat())
        except (TypeError, ValueError) as error:
            raise self.description.error("has values other than integers from 0 to 255; send only these") from error

    def _texts(self) -> list[bytes]:
        texts = self._flat()
        if not all(isinstance(text, str) for text in texts):
            raise self.description.error("has elements other than text; send text, or binary data")
        return [text.encode() for text in texts]

    def _split(self, binary: memoryview, count: int) -> list[bytes]:
        """The elements, of which at most one more than `count` is read."""
        elements: list[bytes] = []
        position = 0
        while position < len(binary) and len(elements) <= count:
            start = position + _LENGTH.size
            position = start + _LENGTH.unpack_from(binary, position)[0] if start <= len(binary) else start
            if position > len(binary):
                raise self.description.error(
                    "ends within an element; send each element as its length in 4 bytes and its bytes"
                )
            elements.append(bytes(binary[start:position]))
        return elements
