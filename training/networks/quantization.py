"""Post-training quantization of a bundle's network to int8, by ONNX Runtime. Needs no torch.

Weights are quantized per output channel and activations per tensor, as pairs of QuantizeLinear and DequantizeLinear
(QDQ). Ranges of activations come from calibration photos, which need no masks. In float32 stay operators that give an
output of the network, such as its softmax, those not in OPERATORS, and the first layers.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType, create_calibrator

from tagmask import files
from tagmask.bundle import Bundle, make_bundle
from tagmask.disk import temporary_files, writable
from tagmask.errors import BundleError, DataError, RunError
from tagmask.metadata import Metadata, Quantization
from tagmask.photos import read_photo
from tagmask.prediction import to_working_size
from tagmask.progress import Advance, silent
from tagmask.session import open_session
from training.networks.parity import QUANTIZATION_PHOTOS, check_precision
from training.networks.quiet import quiet

AGREEMENT = 0.97
"""Least mean share of a photo's pixels whose strongest label is that of the float network."""

OPERATORS = ("Conv", "Clip", "Relu", "Add", "Concat", "Resize", "ReduceMean", "MaxPool")
"""ONNX operators that are quantized."""

FLOAT_LAYERS = 0.1
"""Share of the convolutions, the first ones, that stay in float: what is lost there affects all that comes after."""

Method = Literal["min-max", "percentile", "entropy"]

_CALIBRATIONS: dict[Method, tuple[CalibrationMethod, dict[str, float]]] = {
    "min-max": (CalibrationMethod.MinMax, {}),
    "percentile": (CalibrationMethod.Percentile, {"percentile": 99.99}),
    "entropy": (CalibrationMethod.Entropy, {}),
}

Image = NDArray[np.float32]


def quantize(
    bundle: Bundle,
    photos: Sequence[Path],
    *,
    method: Method = "min-max",
    float_layers: float = FLOAT_LAYERS,
    advance: Advance = silent,
) -> Bundle:
    """The network of `bundle`, fp32 or fp16, in int8, calibrated on two thirds of `photos` and compared on the others.

    At most QUANTIZATION_PHOTOS of them are used, evenly spaced. `method` derives the range of an activation from its
    values: all of them, 99.99% of them, or those that lose the least information. `float_layers` is the share of the
    convolutions, the first ones, that stay in float. `advance(1)` follows each photo. Nothing is written.
    Raises BundleError for an int8 bundle, a network that cannot be quantized, and one that agrees with the float
    network on less than AGREEMENT of the pixels; DataError for less than 3 photos, and for one that cannot be read;
    RunError where no temporary file can be written.
    """
    metadata = bundle.metadata
    if metadata.quantization is not None:
        raise BundleError(f"{bundle.path}: its precision is int8 already; quantize the bundle that it was made from")
    calibration, compared = _choose(photos)
    network = _float32(onnx.ModelProto.FromString(bundle.data))
    images = _read(calibration, metadata, advance)
    try:
        with quiet():
            ranges = _calibrate(network, images, metadata.input.name, method)
            quantized = _with_qdq(network, ranges, _operators_in_float(network.graph, float_layers))
    except (DataError, RunError):
        raise
    except Exception as fault:  # ONNX Runtime's tools have no exception of their own
        reason = " ".join(str(fault).split())
        raise BundleError(f"{bundle.path}: cannot be quantized ({reason}); keep its precision") from fault
    agreement = _agreement(network, quantized, metadata, _read(compared, metadata, advance))
    if agreement < AGREEMENT:
        raise BundleError(
            f"{bundle.path}: in int8 it agrees with its float network on {agreement:.1%} of the pixels of "
            f"{len(compared)} photos, at least {AGREEMENT:.0%} is needed; keep its precision, or name more photos"
        )
    quantization = Quantization(
        calibration_digest=_digest(calibration),
        calibration_photos=len(calibration),
        agreement=agreement,
        compared_photos=len(compared),
        network_digest=hashlib.sha256(quantized.graph.SerializeToString(deterministic=True)).hexdigest(),
    )
    changed = {"precision": "int8", "quantization": quantization, "measured": None}
    return make_bundle(bundle.path, quantized, metadata.model_copy(update=changed))


def _choose(photos: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Photos to calibrate on, and others to compare on."""
    check_precision("int8", len(photos))
    most = min(len(photos), QUANTIZATION_PHOTOS)
    chosen = [photos[number * len(photos) // most] for number in range(most)]
    return [path for number, path in enumerate(chosen) if number % 3 != 2], chosen[2::3]


def _read(photos: Iterable[Path], metadata: Metadata, advance: Advance) -> Iterator[Image]:
    """The network's input for each photo: (1, 3, h, w) float32."""
    for path in photos:
        pixels = to_working_size(read_photo(path), metadata)
        yield np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], dtype=np.float32)
        advance(1)


def _float32(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with named nodes, and with the weights and computation of half precision in float32, losing nothing."""
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            values = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"node_{number}"
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.FLOAT
    del model.graph.value_info[:]
    return onnx.shape_inference.infer_shapes(model)


def _operators_in_float(graph: onnx.GraphProto, float_layers: float) -> list[str]:
    """Names of the operators that give an output, and of the first ones, up to the activation of a convolution."""
    outputs = {output.name for output in graph.output}
    names = [node.name for node in graph.node if not outputs.isdisjoint(node.output)]
    convolutions = [number for number, node in enumerate(graph.node) if node.op_type == "Conv"]
    if first := convolutions[: round(float_layers * len(convolutions))]:
        (features,) = graph.node[first[-1]].output
        names += [node.name for node in graph.node[: first[-1] + 1]]
        names += [node.name for node in graph.node if node.op_type in ("Clip", "Relu") and features in node.input]
    return names


class _Single:
    """One photo, as ONNX Runtime reads calibration data."""

    def __init__(self, inputs: dict[str, Image]) -> None:
        self._left = [inputs]

    def get_next(self) -> dict[str, Image] | None:
        return self._left.pop() if self._left else None


def _calibrate(network: onnx.ModelProto, images: Iterable[Image], name: str, method: Method) -> Any:
    """The range of each activation, as ONNX Runtime's TensorsData, with one photo's activations in memory at a time."""
    calibration, options = _CALIBRATIONS[method]
    with temporary_files(), TemporaryDirectory() as folder, writable(folder):
        source, augmented = Path(folder, "float.onnx"), Path(folder, "augmented.onnx")
        onnx.save(network, source)
        calibrator = create_calibrator(
            source, OPERATORS, str(augmented), calibrate_method=calibration, extra_options=options
        )
        for image in images:
            calibrator.collect_data(_Single({name: image}))
        return calibrator.compute_data()


def _with_qdq(network: onnx.ModelProto, ranges: Any, excluded: Sequence[str]) -> onnx.ModelProto:
    """`network` in int8, except the operators whose names are `excluded`."""
    copy = onnx.ModelProto()
    copy.CopyFrom(network)
    quantizer = QDQQuantizer(
        copy, True, False, QuantType.QInt8, QuantType.QUInt8, ranges, [], list(excluded), list(OPERATORS), {}
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    model: onnx.ModelProto = quantizer.model.model
    return model


def _agreement(
    network: onnx.ModelProto, quantized: onnx.ModelProto, metadata: Metadata, images: Iterable[Image]
) -> float:
    """Mean share of the pixels of an image that have the same strongest label in both networks."""
    sessions = [open_session(model.SerializeToString(), device="cpu") for model in (network, quantized)]
    shares = []
    for image in images:
        masks = [
            session.run([metadata.output.name], {metadata.input.name: image})[0].argmax(axis=1) for session in sessions
        ]
        shares.append(float((masks[0] == masks[1]).mean()))
    return float(np.mean(shares))


def _digest(photos: Iterable[Path]) -> str:
    """SHA-256 hex digest of the photos' bytes, in their order."""
    total = hashlib.sha256()
    for path in photos:
        total.update(hashlib.sha256(files.read_bytes(path)).digest())
    return total.hexdigest()
