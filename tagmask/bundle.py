"""The bundle: `model.onnx` with its metadata inside, which is all that serving needs.

The metadata is JSON under the key `tagmask` of the ONNX file's metadata properties, so any ONNX tool can read it. Files
are not trusted: they may be truncated, swapped, of another schema, or written by hand.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import onnx
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]
from pydantic import (
    AwareDatetime,
    BaseModel,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    computed_field,
    model_validator,
)
from pydantic_core import from_json

from tagmask import files
from tagmask.classes import text_fault
from tagmask.errors import BundleError
from tagmask.inputs import MAX_TILE, MIN_TILE, Precision
from tagmask.masks import BACKGROUND, MAX_CLASSES, PALETTE
from tagmask.scores import Measured

KEY = "tagmask"
"""Metadata property that holds the JSON."""

_FORMAT: Literal[1] = 1  # of the metadata's schema; it increases with changes that older readers would misread

SAMPLES = "tagmask.samples"
"""Metadata property that holds the samples: digests of the photos that the network learned from, one per line."""

CORRECTED = "tagmask.corrected"
"""Metadata property that holds the digests of the photos whose corrections it learned from, written as SAMPLES are."""

SAMPLE_DIGITS = 16
"""Digits of each digest: those of a million photos and one more are all different but once in 10^13 times."""

SMALLEST = 32
"""Minimum height and width of an input, in pixels, of the networks that Tagmask trains."""

MAX_SIDE = 4096
"""Maximum working size in pixels."""

MAX_OUTPUT = 2**30
"""Maximum size in bytes of the probabilities of a square photo at the working size."""

MAX_BYTES = 2**31 - 1
"""Maximum size of a file in bytes: the limit of protobuf."""

MAX_METADATA = 10_000_000
"""Maximum length of the metadata's JSON in characters; most are some thousands long."""

Supervision = Literal[
    "tags", "tags, corrections", "tags, saliency network", "tags, saliency network, corrections", "full masks"
]
Channel = Annotated[int, Field(ge=0, le=255)]

_REMEDY = "use a model.onnx written by `tagmask train`"


class Port(BaseModel, frozen=True):
    """One tensor that goes into the network or comes out of it; `values` describes its content."""

    name: str
    layout: Literal["NCHW", "NC"] = "NCHW"
    dtype: Literal["float32"] = "float32"
    values: str = ""


IMAGE = Port(name="image", values="RGB, 0..255, not normalized")
PROBABILITIES = Port(name="probabilities", values="0..1, sum over C is 1")
TAGS = Port(name="tags", layout="NC", values="0..1, probability of each class except background")


class Quantization(BaseModel, frozen=True):
    """How an int8 network was calibrated, and how far it agrees with the float network that it was made from."""

    calibration_digest: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the calibration photos, hex")
    calibration_photos: int = Field(ge=1, description="number of calibration photos")
    agreement: float = Field(ge=0, le=1, description="mean share of a photo's pixels with the float network's label")
    compared_photos: int = Field(ge=1, description="number of photos compared, none of which calibrated")
    network_digest: str | None = Field(
        None, pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the int8 network, hex; the first bundles lack it"
    )


class Metadata(BaseModel, frozen=True):
    """The description inside a bundle. `version` follows from the digests; unknown fields are ignored when read."""

    format: Literal[1] = Field(_FORMAT, description="version of this schema")
    tagmask: str = Field(description="version of Tagmask that wrote the bundle")
    created: AwareDatetime = Field(
        default_factory=lambda: datetime.now(UTC).replace(microsecond=0), description="time of export"
    )
    weights_digest: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the trained weights, hex")
    classes: tuple[str, ...] = Field(min_length=2, max_length=MAX_CLASSES + 1, description="by label, background first")
    palette: tuple[tuple[Channel, Channel, Channel], ...] = Field(
        default_factory=lambda data: PALETTE[: len(data["classes"])],
        description="red, green, blue (0..255) of each class; VOC's by default",
    )
    working_size: int = Field(ge=1, le=MAX_SIDE, description="longer side that photos are scaled to, pixels")
    tile: int | None = Field(
        None,
        ge=MIN_TILE,
        le=MAX_TILE,
        description="side of the tiles in which larger photos are segmented, pixels; null: photos are segmented whole",
    )
    smallest_size: int = Field(SMALLEST, ge=1, description="least height and width of an input, pixels")
    input: Port = Field(IMAGE, description="(1, 3, h, w), RGB, 0..255, not normalized")
    output: Port = Field(PROBABILITIES, description="(1, labels, h, w) probabilities, 0..1, sum over labels is 1")
    tags: Port | None = Field(
        None, description="(1, classes) probability of each class except background, 0..1, in models that tell it"
    )
    tag_shares: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        (), description="part of the training photos that carry each class except background, if the model has `tags`"
    )
    precision: Precision = Field("fp32", description="number format of weights and computation")
    quantization: Quantization | None = Field(None, description="calibration and agreement of an int8 network")
    backbone: str = Field(description="timm name of the backbone")
    rounds: int = Field(ge=0, description="round that trained the network; 0 for training without rounds")
    photos: int = Field(ge=1, description="number of training photos")
    data_digest: str = Field(description="SHA-256 of the tagged training photos, hex")
    supervision: Supervision = Field(
        "tags",
        description="'tags', with 'saliency network' (most learned from masks of others) and 'corrections' (pixels "
        "that people vouch for) if they took part, or 'full masks'",
    )
    saliency: str = Field("unsupervised", description="'unsupervised', or the file of a saliency network")
    metrics: dict[str, Any] = Field(default_factory=dict, description="figures of the kept round")
    measured: Measured | None = Field(None, description="accuracy on held-out corrections, if there are any")
    settings: dict[str, Any] = Field(default_factory=dict, description="settings of the run")
    decision: dict[str, Any] | None = Field(None, description="whether the model was promoted, and why")

    @computed_field(  # type: ignore[prop-decorator]
        description="first 12 hex digits of the weights' digest, and '-fp16', or '-int8-' and 8 of the network's"
    )
    @property
    def version(self) -> str:
        parts = [self.weights_digest[:12], *([] if self.precision == "fp32" else [self.precision])]
        if self.quantization and self.quantization.network_digest:
            parts.append(self.quantization.network_digest[:8])
        return "-".join(parts)

    @model_validator(mode="wrap")
    @classmethod
    def _check_version(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Refuse a `version` in the metadata that does not follow from the digests."""
        metadata = handler(values)
        version = values.get("version", metadata.version) if isinstance(values, dict) else metadata.version
        if version != metadata.version:
            raise ValueError(f"version {version!r} is not {metadata.version!r}, which follows from the digests")
        return metadata

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.classes[0] != BACKGROUND or len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes must begin with {BACKGROUND!r} and differ")
        for name in self.classes[1:]:
            if fault := text_fault(name):
                raise ValueError(f"class {name!r} {fault}")
        if (self.precision == "int8") != (self.quantization is not None):
            raise ValueError(
                f"precision {self.precision} {'without' if self.precision == 'int8' else 'with'} quantization"
            )
        if len(self.palette) != len(self.classes):
            raise ValueError(f"{len(self.palette)} colours for {len(self.classes)} classes")
        if len(self.tag_shares) != (len(self.classes) - 1 if self.tags else 0):
            raise ValueError(f"{len(self.tag_shares)} tag_shares for {len(self.classes)} classes")
        if self.smallest_size > self.working_size:
            raise ValueError(f"smallest_size {self.smallest_size} is above working_size {self.working_size}")
        if (output := 4 * len(self.classes) * self.working_size**2) > MAX_OUTPUT:
            raise ValueError(
                f"working_size {self.working_size} with {len(self.classes)} classes is an output of {output:,} bytes, "
                f"more than {MAX_OUTPUT:,}"
            )
        return self


@dataclass(frozen=True)
class Bundle:
    """A bundle read from `path`: its metadata, the file's bytes (`data`) and their `sha256` (hex)."""

    metadata: Metadata
    data: bytes
    sha256: str
    path: Path


def read_bundle(path: Path, sha256: str | None = None, checked: bool = True) -> Bundle:
    """Read the bundle at `path`; with `checked` False the ONNX checker is skipped.

    Raises BundleError, naming the file, the fault and the remedy, for a file that cannot be read, is larger than
    MAX_BYTES, has another SHA-256 than `sha256` (hex), is not ONNX or is refused by the checker, keeps tensors in other
    files, has no valid Tagmask metadata, or a network with other inputs and outputs than the metadata names.
    """
    data = _content(path)
    digest = hashlib.sha256(data).hexdigest()
    if sha256 is not None and digest != sha256:
        raise BundleError(f"{path}: SHA-256 is {digest}, expected {sha256}; restore the file, or add it again")
    model = _model(path, data)
    metadata = _metadata(path, model)
    try:
        if checked:
            onnx.checker.check_model(data, full_check=True)
        _check_self_contained(model)
        labels = len(metadata.classes)
        _check_ports({metadata.input: 3}, _inputs(model.graph))
        outputs = {metadata.output: labels} | ({metadata.tags: labels - 1} if metadata.tags else {})
        _check_ports(outputs, list(model.graph.output))
    except Exception as fault:  # the checker raises exceptions of C++ and Python without a common base
        reason = " ".join(str(fault).split())
        raise BundleError(f"{path}: no valid network ({reason}); export it again, or {_REMEDY}") from fault
    return Bundle(metadata, data, digest, path)


def read_metadata(path: Path) -> Metadata:
    """The metadata of the bundle at `path`; the network is not checked. Raises BundleError as `read_bundle` does."""
    return _metadata(path, _model(path, _content(path)))


def make_bundle(path: Path, model: onnx.ModelProto, metadata: Metadata) -> Bundle:
    """The bundle of `model` and `metadata` that `write_bundle` would write to `path`; nothing is written."""
    data = with_metadata(model, metadata)
    return Bundle(metadata, data, hashlib.sha256(data).hexdigest(), path)


def write_bundle(path: Path, model: onnx.ModelProto, metadata: Metadata) -> None:
    """Put `metadata` into `model`, replacing any it had, and write it to `path` atomically; its samples stay."""
    files.write_bytes(path, with_metadata(model, metadata))


def with_metadata(model: onnx.ModelProto, metadata: Metadata) -> bytes:
    """The bytes of the bundle made of `model`, with its samples if any, and `metadata`."""
    bundle = onnx.ModelProto()
    bundle.CopyFrom(model)
    del bundle.metadata_props[:]
    bundle.metadata_props.extend(entry for entry in model.metadata_props if entry.key in (SAMPLES, CORRECTED))
    bundle.metadata_props.add(key=KEY, value=metadata.model_dump_json())
    return bundle.SerializeToString(deterministic=True)


def sample_digests(samples: Iterable[str]) -> frozenset[str]:
    """What bundles record of `samples`: the first SAMPLE_DIGITS digits of the SHA-256 of each, in hex."""
    return frozenset(sample[:SAMPLE_DIGITS] for sample in samples)


def add_samples(model: onnx.ModelProto, digests: Iterable[str], key: str = SAMPLES) -> None:
    """Record in `model` the photos that it learned from, by the SHA-256 of their bytes in hex.

    With the `key` CORRECTED those whose corrections it learned from.
    """
    model.metadata_props.add(key=key, value="\n".join(sorted(sample_digests(digests))))


def read_samples(path: Path, key: str = SAMPLES) -> frozenset[str] | None:
    """The first SAMPLE_DIGITS digits of each photo that the bundle at `path` learned from; None if it has no record.

    With the `key` CORRECTED of those whose corrections it learned from. Raises BundleError as `read_bundle` does.
    """
    for entry in _model(path, _content(path)).metadata_props:
        if entry.key == key:
            return frozenset(entry.value.split())
    return None


def write_decision(path: Path, decision: dict[str, Any]) -> Metadata:
    """Put `decision`, JSON values, into the bundle at `path`, replacing any it had; returns the new metadata.

    The file is replaced atomically. Its bytes change; its network, weights digest and version do not. A store accepts
    only one content per version, so this comes before publication. Raises BundleError as `read_metadata` does.
    """
    model = _model(path, _content(path))
    metadata = _metadata(path, model).model_copy(update={"decision": decision})
    write_bundle(path, model, metadata)
    return metadata


def write_measured(path: Path, measured: Measured) -> None:
    """Put `measured` into the bundle at `path`; see `write_decision`."""
    model = _model(path, _content(path))
    write_bundle(path, model, _metadata(path, model).model_copy(update={"measured": measured}))


def _content(path: Path) -> bytes:
    try:
        return files.read_bytes(path, MAX_BYTES)
    except OSError as fault:
        raise BundleError(f"{path}: {files.read_fault(fault, _REMEDY)}") from fault


def _model(path: Path, data: bytes) -> onnx.ModelProto:
    try:
        model = onnx.ModelProto.FromString(data)
    except DecodeError as fault:
        raise BundleError(f"{path}: not an ONNX file, or truncated; {_REMEDY}") from fault
    if not model.graph.node:
        raise BundleError(f"{path}: not an ONNX file, or empty; {_REMEDY}")
    return model


def _metadata(path: Path, model: onnx.ModelProto) -> Metadata:
    try:
        text = next((entry.value for entry in model.metadata_props if entry.key == KEY), None)
        if text is None:
            raise BundleError(f"{path}: an ONNX file without the metadata '{KEY}'; {_REMEDY}")
        if len(text) > MAX_METADATA:
            raise BundleError(
                f"{path}: its metadata '{KEY}' has {len(text):,} characters, more than {MAX_METADATA:,}; {_REMEDY}"
            )
        values = from_json(text)
        json.dumps(values, allow_nan=False)  # from_json reads NaN and infinity, which are not JSON
    except ValueError as fault:
        raise BundleError(f"{path}: its metadata '{KEY}' is not JSON ({fault}); {_REMEDY}") from fault
    version = values.get("format") if isinstance(values, dict) else None
    if version != _FORMAT:
        raise BundleError(
            f"{path}: its metadata has format {version!r}, this version of Tagmask reads format {_FORMAT}; use the "
            "version that wrote it, or export the model again"
        )
    try:
        return Metadata.model_validate(values)
    except ValidationError as fault:
        first = fault.errors()[0]
        name = " field " + ".".join(map(str, first["loc"])) if first["loc"] else ""
        reason = first["msg"].removeprefix("Value error, ")
        raise BundleError(f"{path}: metadata{name}: {reason}; {_REMEDY}") from fault


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
    """Required inputs; those with an initializer have a default."""
    defaults = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in defaults]


def _check_ports(ports: dict[Port, int], values: list[onnx.ValueInfoProto]) -> None:
    """`ports` have these numbers of channels."""
    declared, actual = [port.name for port in ports], [value.name for value in values]
    if actual != declared:
        raise ValueError(f"the metadata names {', '.join(map(repr, declared))}, the network has {actual}")
    for (port, channels), value in zip(ports.items(), values, strict=True):
        tensor = value.type.tensor_type
        sizes = [dim.dim_value for dim in tensor.shape.dim]  # 0 for a size that may vary
        fits = len(sizes) == len(port.layout) and sizes[1] in (0, channels)
        if tensor.elem_type != onnx.TensorProto.FLOAT or (sizes and not fits):
            dtype = onnx.TensorProto.DataType.Name(tensor.elem_type)
            shape = ", ".join(["N", str(channels), *port.layout[2:]])
            raise ValueError(f"{port.name!r} must be float32 ({shape}), it is {dtype} {sizes} (0: any size)")
