"""The bundle: `model.onnx` with its metadata inside, which is all that serving needs.

The metadata is JSON under the key `tagmask` of the ONNX file's metadata properties, so any ONNX tool can read it.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from pydantic import BaseModel, ConfigDict, Field, ValidationError, computed_field, model_validator

from tagmask import files
from tagmask.errors import BundleError
from tagmask.masks import BACKGROUND, MAX_CLASSES, PALETTE

KEY = "tagmask"
"""Metadata property that holds the JSON."""

FORMAT: Literal[1] = 1
"""Version of the metadata's schema; a change that a reader of the old one would misread raises it."""

SMALLEST = 32
"""Least height and width in pixels that the network takes."""

Precision = Literal["fp32", "fp16"]
Supervision = Literal["tags", "full masks"]
Colour = tuple[int, int, int]

_REMEDY = "give a model.onnx that `tagmask train` wrote"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Port(_Frozen):
    """One tensor that goes into the network or comes out of it."""

    name: str
    layout: str
    dtype: str
    values: str


IMAGE = Port(name="image", layout="NCHW", dtype="float32", values="RGB, 0..255, not normalized")
PROBABILITIES = Port(name="probabilities", layout="NCHW", dtype="float32", values="0..1, sum over C is 1")


class Metadata(_Frozen):
    """What a bundle says of itself. `version` follows from the weights; unknown fields are ignored when read."""

    format: Literal[1] = Field(FORMAT, description="version of this schema")
    tagmask: str = Field(description="version of Tagmask that wrote the bundle")
    created: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"), description="ISO UTC")
    weights_digest: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the trained weights, hex")
    classes: tuple[str, ...] = Field(min_length=2, max_length=MAX_CLASSES + 1, description="by label, background first")
    palette: tuple[Colour, ...] = Field((), description="red, green, blue (0..255) of each class; VOC's when left out")
    working_size: int = Field(ge=SMALLEST, description="longer side that photos are scaled to, pixels")
    smallest_size: int = Field(SMALLEST, ge=1, description="least height and width of an input, pixels")
    input: Port = IMAGE
    output: Port = PROBABILITIES
    precision: Precision = Field("fp32", description="number format of weights and computation")
    backbone: str = Field(description="timm name of the backbone")
    rounds: int = Field(ge=0, description="round whose network this is; 0 for one trained without rounds")
    photos: int = Field(ge=1, description="photos it learned from")
    data_digest: str = Field(description="SHA-256 of the tagged photos it learned from, hex")
    supervision: Supervision = "tags"
    saliency: str = Field("unsupervised", description="'unsupervised', or the file of a saliency network")
    metrics: dict[str, Any] = Field(default_factory=dict, description="figures of the kept round")
    settings: dict[str, Any] = Field(default_factory=dict, description="settings of the run")
    decision: dict[str, Any] | None = Field(None, description="whether it was found fit to be champion, and why")

    @computed_field(description="first 12 hex digits of the weights' digest, and '-fp16' in half precision")  # type: ignore[prop-decorator]
    @property
    def version(self) -> str:
        return self.weights_digest[:12] + ("" if self.precision == "fp32" else f"-{self.precision}")

    @model_validator(mode="before")
    @classmethod
    def _colour(cls, values: Any) -> Any:
        if isinstance(values, dict) and "palette" not in values and "classes" in values:
            return {**values, "palette": PALETTE[: len(values["classes"])]}
        return values

    @model_validator(mode="after")
    def _agree(self) -> "Metadata":
        if self.classes[0] != BACKGROUND or len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes must begin with {BACKGROUND!r} and differ")
        if len(self.palette) != len(self.classes):
            raise ValueError(f"{len(self.palette)} colours for {len(self.classes)} classes")
        return self


def write_bundle(path: Path, model: onnx.ModelProto, metadata: Metadata) -> None:
    """Put `metadata` into `model`, in place of what it had, and write it to `path` atomically."""
    with files.atomic_write(path) as file:
        file.write(with_metadata(model, metadata))


def write_decision(path: Path, decision: dict[str, Any]) -> Metadata:
    """Put `decision`, JSON values, into the bundle at `path`, in place of one it may have; returns its metadata.

    The file is replaced atomically. Its bytes change, its network, weights digest and version do not: a store takes
    a version with one content alone, so this comes before the bundle is published. Raises BundleError as
    `read_metadata` does.
    """
    model, metadata = _read(path)
    decided = metadata.model_copy(update={"decision": decision})
    write_bundle(path, model, decided)
    return decided


def with_metadata(model: onnx.ModelProto, metadata: Metadata) -> bytes:
    """The bytes of a bundle."""
    bundle = onnx.ModelProto()
    bundle.CopyFrom(model)
    del bundle.metadata_props[:]
    bundle.metadata_props.add(key=KEY, value=metadata.model_dump_json())
    return bundle.SerializeToString(deterministic=True)


def read_metadata(path: Path) -> Metadata:
    """What the bundle at `path` says of itself.

    Raises BundleError, naming the file and the remedy, when there is no such file, when it is not ONNX, has no
    Tagmask metadata, or metadata of another format or schema.
    """
    return _read(path)[1]


def _read(path: Path) -> tuple[onnx.ModelProto, Metadata]:
    try:
        model = onnx.ModelProto.FromString(path.read_bytes())
    except OSError as fault:
        raise BundleError(f"{path}: cannot be read ({fault.strerror}); {_REMEDY}") from fault
    except DecodeError as fault:
        raise BundleError(f"{path}: not an ONNX file; {_REMEDY}") from fault
    if not model.graph.node:
        raise BundleError(f"{path}: not an ONNX file, or an empty one; {_REMEDY}")
    text = next((entry.value for entry in model.metadata_props if entry.key == KEY), None)
    if text is None:
        raise BundleError(f"{path}: an ONNX file without the metadata '{KEY}'; {_REMEDY}")
    return model, _parse(path, text)


def _parse(path: Path, text: str) -> Metadata:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as fault:
        raise BundleError(f"{path}: its metadata '{KEY}' is not JSON ({fault}); {_REMEDY}") from fault
    given = values.get("format") if isinstance(values, dict) else None
    if given != FORMAT:
        raise BundleError(
            f"{path}: its metadata has format {given!r}, this Tagmask reads {FORMAT}; use the Tagmask that wrote it, "
            "or export the model again"
        )
    try:
        return Metadata.model_validate(values)
    except ValidationError as fault:
        first = fault.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or "metadata"
        raise BundleError(f"{path}: metadata field {name}: {first['msg']}; {_REMEDY}") from fault
