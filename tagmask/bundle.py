"""The bundle: `model.onnx` with its metadata inside, which is all that serving needs.

The metadata is JSON under the key `tagmask` of the ONNX file's metadata properties, so any ONNX tool can read it. Files
are not trusted: they may be truncated, swapped, of another schema, or written by hand.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]
from pydantic import ValidationError
from pydantic_core import from_json

from tagmask import files
from tagmask.errors import BundleError
from tagmask.metadata import FORMAT, Metadata, Port, sample_digests
from tagmask.scores import Measured

KEY = "tagmask"
"""Metadata property that holds the JSON."""

SAMPLES = "tagmask.samples"
"""Metadata property that holds the samples: digests of the photos that the network learned from, one per line."""

CORRECTED = "tagmask.corrected"
"""Metadata property that holds the digests of the photos whose corrections it learned from, written as SAMPLES are."""

MAX_BYTES = 2**31 - 1
"""Maximum size of a file in bytes: the limit of protobuf."""

MAX_METADATA = 10_000_000
"""Maximum length of the metadata's JSON in characters; most are some thousands long."""

_REMEDY = "use a model.onnx written by `tagmask train`"


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
        remedy = "restore it, or name another one" if isinstance(fault, FileNotFoundError) else _REMEDY
        raise BundleError(f"{path}: {files.read_fault(fault, remedy)}") from fault


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
    if version != FORMAT:
        raise BundleError(
            f"{path}: its metadata has format {version!r}, this version of Tagmask reads format {FORMAT}; use the "
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
