"""The bundle as the service reads it: one ONNX file with what it says of itself as JSON in its metadata properties.

The file is not trusted: it may be cut short, swapped, of another schema, or made by hand.
"""

import errno
import hashlib
import json
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import onnx
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import from_json

from tagmask.errors import BundleError

KEY = "tagmask"
"""Metadata property that holds the JSON."""

FORMAT: Literal[1] = 1
"""Version of the metadata's schema that is read here."""

BACKGROUND = "background"
"""Name of label 0."""

MAX_LABELS = 255
"""Labels at most, background included: a mask's value is a uint8, and 255 is void."""

MAX_SIDE = 4096
"""Greatest working size in pixels that Tagmask trains with."""

MAX_BYTES = 2**31 - 1
"""Size of a file at most, which is protobuf's own limit."""

_REMEDY = "give a model.onnx that `tagmask train` wrote"

Channel = Annotated[int, Field(ge=0, le=255)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Port(_Frozen):
    """One tensor that goes into the network or comes out of it."""

    name: str
    layout: Literal["NCHW"]
    dtype: Literal["float32"]


class Metadata(_Frozen):
    """What a bundle says of itself; unknown fields are ignored."""

    format: Literal[1] = Field(description="version of this schema")
    tagmask: str = Field(description="version of Tagmask that wrote the bundle")
    created: AwareDatetime = Field(description="when it was exported")
    weights_digest: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the trained weights, hex")
    version: str = Field(description="first 12 hex digits of the weights' digest, and '-fp16' in half precision")
    classes: tuple[str, ...] = Field(min_length=2, max_length=MAX_LABELS, description="by label, background first")
    palette: tuple[tuple[Channel, Channel, Channel], ...] = Field(description="red, green, blue (0..255) of each class")
    working_size: int = Field(ge=1, le=MAX_SIDE, description="longer side that photos are scaled to, pixels")
    smallest_size: int = Field(ge=1, description="least height and width of an input, pixels")
    input: Port = Field(description="(1, 3, h, w), RGB, 0..255, not normalized")
    output: Port = Field(description="(1, labels, h, w) probabilities, 0..1, sum over labels is 1")
    precision: Literal["fp32", "fp16"] = Field(description="number format of weights and computation")
    backbone: str = Field(description="timm name of the backbone")
    rounds: int = Field(ge=0, description="round whose network this is; 0 for one trained without rounds")
    photos: int = Field(ge=1, description="photos it learned from")
    data_digest: str = Field(description="SHA-256 of the tagged photos it learned from, hex")
    supervision: str = Field(description="'tags', or 'full masks'")
    saliency: str = Field(description="'unsupervised', or the file of a saliency network")
    metrics: dict[str, Any] = Field(description="figures of the kept round")
    settings: dict[str, Any] = Field(description="settings of the run")

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.classes[0] != BACKGROUND or len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes must begin with {BACKGROUND!r} and differ")
        for name in self.classes:
            if not name or not name.isprintable() or any(map(str.isspace, name)):
                raise ValueError(f"class {name!r} must be printable and without blanks")
        if len(self.palette) != len(self.classes):
            raise ValueError(f"{len(self.palette)} colours for {len(self.classes)} classes")
        if self.smallest_size > self.working_size:
            raise ValueError(f"smallest_size {self.smallest_size} is above working_size {self.working_size}")
        due = self.weights_digest[:12] + ("" if self.precision == "fp32" else f"-{self.precision}")
        if self.version != due:
            raise ValueError(f"version {self.version!r} is not {due!r}, which follows from the weights")
        return self


@dataclass(frozen=True)
class Bundle:
    """A bundle that was read: its `data` (the file's bytes) and their `sha256` (hex), and where it came from."""

    metadata: Metadata
    data: bytes
    sha256: str
    path: Path


def read_bundle(path: Path, sha256: str | None = None, checked: bool = True) -> Bundle:
    """Read the bundle at `path`; without `checked`, the ONNX checker is left out.

    Raises BundleError, naming the file, what is wrong and the remedy, when it cannot be read or is larger than
    MAX_BYTES, when its SHA-256 is not `sha256` (hex), when it is not ONNX or the checker refuses it, keeps tensors in
    other files, has no valid Tagmask metadata, or a network with other inputs and outputs than these name.
    """
    data = _content(path)
    digest = hashlib.sha256(data).hexdigest()
    if sha256 is not None and digest != sha256:
        raise BundleError(f"{path}: its SHA-256 is {digest}, due is {sha256}; put the file back, or add it again")
    model = _model(path, data)
    metadata = _metadata(path, model)
    try:
        if checked:
            onnx.checker.check_model(data, full_check=True)
        _check_self_contained(model)
        _check_port(metadata.input, 3, _inputs(model.graph))
        _check_port(metadata.output, len(metadata.classes), list(model.graph.output))
    except Exception as fault:  # the checker raises exceptions of C++ and Python without a common base
        why = " ".join(str(fault).split())
        raise BundleError(f"{path}: no valid network ({why}); export it again, or {_REMEDY}") from fault
    return Bundle(metadata, data, digest, path)


def read_metadata(path: Path) -> Metadata:
    """What the bundle at `path` says of itself, the network unchecked. Raises BundleError as `read_bundle` does."""
    return _metadata(path, _model(path, _content(path)))


def _content(path: Path) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for its writer
            raise OSError(errno.EINVAL, "not a file")
        if status.st_size > MAX_BYTES:
            raise BundleError(f"{path}: {status.st_size:,} bytes, at most {MAX_BYTES:,} can be ONNX; {_REMEDY}")
        return path.read_bytes()
    except OSError as fault:
        raise BundleError(f"{path}: cannot be read ({fault.strerror}); {_REMEDY}") from fault


def _model(path: Path, data: bytes) -> onnx.ModelProto:
    try:
        model = onnx.ModelProto.FromString(data)
    except DecodeError as fault:
        raise BundleError(f"{path}: not an ONNX file, or one cut short; {_REMEDY}") from fault
    if not model.graph.node:
        raise BundleError(f"{path}: not an ONNX file, or an empty one; {_REMEDY}")
    return model


def _metadata(path: Path, model: onnx.ModelProto) -> Metadata:
    try:
        text = next((entry.value for entry in model.metadata_props if entry.key == KEY), None)
        if text is None:
            raise BundleError(f"{path}: an ONNX file without the metadata '{KEY}'; {_REMEDY}")
        values = from_json(text)
        json.dumps(values, allow_nan=False)  # NaN and infinity are read, and could not be told to clients
    except ValueError as fault:
        raise BundleError(f"{path}: its metadata '{KEY}' is not JSON ({fault}); {_REMEDY}") from fault
    given = values.get("format") if isinstance(values, dict) else None
    if given != FORMAT:
        raise BundleError(
            f"{path}: its metadata has format {given!r}, this service reads {FORMAT}; serve it with the Tagmask that "
            "wrote it, or export the model again"
        )
    try:
        return Metadata.model_validate(values)
    except ValidationError as fault:
        first = fault.errors()[0]
        name = " field " + ".".join(map(str, first["loc"])) if first["loc"] else ""
        why = first["msg"].removeprefix("Value error, ")
        raise BundleError(f"{path}: metadata{name}: {why}; {_REMEDY}") from fault


def _check_self_contained(model: onnx.ModelProto) -> None:
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise ValueError(f"tensor {tensor.name!r} is stored in another file; a bundle is a single file")


def _tensors(message: Message) -> Iterator[onnx.TensorProto]:
    """Every tensor anywhere in `message`: initializers, attributes, subgraphs, functions."""
    if isinstance(message, onnx.TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in [value] if isinstance(value, Message) else value:
                yield from _tensors(inner)


def _inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """Inputs that a caller must give; those with an initializer have a default."""
    defaults = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in defaults]


def _check_port(port: Port, channels: int, found: list[onnx.ValueInfoProto]) -> None:
    names = [value.name for value in found]
    if names != [port.name]:
        raise ValueError(f"the metadata names {port.name!r} as its one tensor there, the network has {names}")
    tensor = found[0].type.tensor_type
    sizes = [dim.dim_value for dim in tensor.shape.dim]  # 0 for a size that may vary
    if tensor.elem_type != onnx.TensorProto.FLOAT or (sizes and (len(sizes) != 4 or sizes[1] not in (0, channels))):
        kind = onnx.TensorProto.DataType.Name(tensor.elem_type)
        raise ValueError(f"{port.name!r} must be float32 (N, {channels}, H, W), it is {kind} {sizes} (0: any size)")
