"""Tensors of an inference request: described in JSON, their elements there as well or in bytes after it.

Binary data is little-endian, in row-major order; an element of datatype BYTES is its length as uint32 and its bytes.
https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/protocol/extension_binary_data.html
"""

import math
import struct
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from pydantic import Field

from service.http.request_body import Document
from tagmask.errors import Unprocessable
from tagmask.segmentation import Pixels

Parameters = dict[str, bool | int | float | str]

BINARY_SIZE = "binary_data_size"
_LENGTH = struct.Struct("<I")


class Described(Document):
    """A tensor as the request's JSON describes it."""

    name: str
    shape: list[int] = Field(max_length=8)
    datatype: str
    parameters: Parameters | None = None
    data: Any = None

    def fault(self, message: str) -> Unprocessable:
        """What is answered when this tensor cannot be used."""
        name = self.name[:100]
        return Unprocessable(f"tensor {name!r}: {message}", code="bad_tensor", field=name)


@dataclass(frozen=True)
class Tensor:
    """A tensor and, where it came in binary, its bytes."""

    described: Described
    binary: memoryview | None

    def elements(self) -> list[bytes]:
        """The elements of datatype BYTES, in order; text in JSON is given in UTF-8.

        Raises Unprocessable for another datatype, and where they are not as many as the shape says.
        """
        self._demand("BYTES")
        found = self._listed() if self.binary is None else self._split(self.binary)
        count = math.prod(self.described.shape)
        if len(found) != count:
            raise self.described.fault(f"has {len(found)} elements, and {count} by its shape; make them the same")
        return found

    def pixels(self) -> Pixels:
        """(H, W, 3) uint8 of a tensor of datatype UINT8 and shape [H, W, 3] or [1, H, W, 3]. Raises Unprocessable."""
        self._demand("UINT8")
        shape = self.described.shape
        size = shape[1:] if len(shape) == 4 and shape[0] == 1 else shape
        if len(size) != 3 or size[2] != 3 or min(size) < 1:
            raise self.described.fault(f"has shape {shape}; send one photo, [H, W, 3] or [1, H, W, 3], in RGB order")
        values = self._numbers() if self.binary is None else self.binary
        if len(values) != math.prod(size):
            raise self.described.fault(
                f"has {len(values)} values, and {math.prod(size)} by its shape; make them the same"
            )
        return np.frombuffer(values, dtype=np.uint8).reshape(size)

    def _demand(self, datatype: str) -> None:
        if self.described.datatype != datatype:
            given = self.described.datatype[:100]
            raise self.described.fault(f"has datatype {given!r}, which it cannot have; send {datatype}")

    def _flat(self) -> list[Any]:
        """What stands in JSON: a list, in which each dimension may be a list of its own."""
        data = self.described.data
        if not isinstance(data, list):
            raise self.described.fault(f"has no data; send a list as `data`, or binary data with {BINARY_SIZE}")
        for _ in self.described.shape[1:]:
            if data and all(isinstance(row, list) for row in data):
                data = list(chain.from_iterable(data))
        return data

    def _numbers(self) -> bytes:
        try:
            return bytes(self._flat())
        except (TypeError, ValueError) as fault:
            raise self.described.fault("has other values than integers from 0 to 255; send these") from fault

    def _listed(self) -> list[bytes]:
        texts = self._flat()
        if not all(isinstance(text, str) for text in texts):
            raise self.described.fault("has other elements than text; send text, or binary data")
        return [text.encode() for text in texts]

    def _split(self, binary: memoryview) -> list[bytes]:
        found, at = [], 0
        while at < len(binary):
            start = at + _LENGTH.size
            at = start + _LENGTH.unpack_from(binary, at)[0] if start <= len(binary) else start
            if at > len(binary):
                raise self.described.fault(
                    "breaks off within an element; send each as its length in 4 bytes and its bytes"
                )
            found.append(bytes(binary[start:at]))
        return found
