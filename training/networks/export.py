"""Export of the served network to ONNX: any batch, height and width of 32 or more, normalization and softmax inside.

Nothing is written unless the ONNX checker passes and the outputs of ONNX Runtime and PyTorch agree.
"""

import copy
import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn

from tagmask import files
from tagmask.bundle import CORRECTED, add_samples, make_bundle
from tagmask.errors import BundleError
from tagmask.inputs import Precision
from tagmask.metadata import IMAGE, MIN_INPUT_SIDE, PROBABILITIES, TAGS, Metadata
from tagmask.progress import Advance, silent
from tagmask.session import open_session
from training.networks.parity import parity_inputs
from training.networks.quantization import quantize
from training.networks.quiet import quiet
from training.networks.taghead import ServedNetwork

AGREEMENT = {"fp32": 0.999, "fp16": 0.99}
"""Least share of pixels, at each size, whose strongest label is that of PyTorch in float32. Half precision turns pixels
whose two strongest labels are nearly equal: outlines, or everywhere in an untrained network; a random head on lite0
still kept 99.4%."""

TAG_DIFFERENCE = 0.05
"""Greatest difference of a tag's probability from that of PyTorch in float32."""


def export(
    network: ServedNetwork,
    path: Path,
    metadata: Metadata,
    *,
    samples: Iterable[str] | None = None,
    corrected: Collection[str] = (),
    precision: Precision = "fp32",
    photos: Sequence[NDArray[np.uint8]] = (),
    calibration: Sequence[Path] = (),
    advance: Advance = silent,
) -> None:
    """Write `network` as a bundle to `path`; `network` itself, its mode and its device stay as they are.

    The graph takes `image`, (B, 3, H, W) float32 RGB 0..255, and gives `probabilities`, (B, labels, H, W) float32
    summing to 1 over labels, and `tags`, (B, labels - 1) float32 0..1, in any precision; "fp16" means PixelNet's
    weights and computation, "int8" quantizes the network in float32 by the photos `calibration`, as `quantize` does.
    `metadata.precision` and `metadata.tags` are set.
    `samples`, if known, are the digests of the photos that it learned from, and `corrected` of those whose corrections
    it learned from; see `tagmask.bundle.add_samples`. `photos`,
    each (H, W, 3) uint8 RGB, join the generated ones in the test of parity. `advance(1)` follows each input.
    Raises BundleError, leaving `path` as it was, when the checker or parity fails, and as `quantize` does.
    """
    exported: Precision = "fp32" if precision == "int8" else precision
    model = to_onnx(network, exported)
    if samples is not None:
        add_samples(model, samples)
    if corrected:
        add_samples(model, corrected, CORRECTED)
    bundle = make_bundle(path, model, metadata.model_copy(update={"precision": exported, "tags": TAGS}))
    check_parity(network, bundle.data, least=AGREEMENT[exported], photos=photos, advance=advance)
    if precision == "int8":
        bundle = quantize(bundle, calibration, advance=advance)
    files.write_bytes(path, bundle.data)


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 hex digest of a state dict: names, shapes and bytes, in order of name."""
    total = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        total.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        total.update(tensor.numpy().tobytes())
    return total.hexdigest()


def to_onnx(network: ServedNetwork, precision: Precision = "fp32") -> onnx.ModelProto:
    """`network` as a checked ONNX model; see `export`. Raises BundleError when the checker refuses it."""
    dimension = torch.export.Dim
    sizes = {
        0: dimension("batch", min=1),
        2: dimension("height", min=MIN_INPUT_SIDE),
        3: dimension("width", min=MIN_INPUT_SIDE),
    }
    example = torch.zeros(2, 3, 97, 131)
    with quiet():
        program = torch.onnx.export(
            _Exported(network, precision).eval(),
            (example,),
            dynamo=True,
            dynamic_shapes={"image": sizes},
            input_names=[IMAGE.name],
            output_names=[PROBABILITIES.name, TAGS.name],
            optimize=True,
            verbose=False,
        )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    _remove_source(model.graph)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as fault:
        raise BundleError(f"export: the ONNX checker refuses the model ({fault}); choose another backbone") from fault
    return model


def check_parity(
    network: ServedNetwork,
    model: Path | bytes,
    *,
    least: float = AGREEMENT["fp32"],
    photos: Sequence[NDArray[np.uint8]] = (),
    advance: Advance = silent,
) -> float:
    """Run a bundle, a file or its bytes, in ONNX Runtime on CPU beside `network` and compare.

    Inputs are smooth random photos of `PARITY_SIZES`, in batches of 1 and 2, and `photos`, each (H, W, 3) uint8 RGB.
    Returns the smallest share, over inputs, of pixels with the same strongest label. Raises BundleError when that
    is below `least`, for a tag's probability that differs by more than TAG_DIFFERENCE, and for an output of another
    shape or that is not finite.
    """
    reference = _on_cpu(network)
    session = open_session(model, device="cpu")
    worst = 1.0
    for image in parity_inputs(photos):
        with torch.inference_mode():
            expected = [output.numpy() for output in reference(torch.from_numpy(image))]
        outputs = session.run([PROBABILITIES.name, TAGS.name], {IMAGE.name: image})
        size = f"{image.shape[3]}x{image.shape[2]} pixels, batch {image.shape[0]}"
        for own, other in zip(outputs, expected, strict=True):
            if own.shape != other.shape or not np.isfinite(own).all():
                raise BundleError(f"parity: at {size} ONNX's output is {own.shape} or not finite; nothing is exported")
        worst = min(worst, float((outputs[0].argmax(axis=1) == expected[0].argmax(axis=1)).mean()))
        remedy = "nothing is exported: try the other --precision or another backbone"
        if worst < least:
            raise BundleError(
                f"parity: at {size} ONNX and PyTorch agree on {worst:.3%} of the pixels, at least {least:.1%} is "
                f"needed; {remedy}"
            )
        if (difference := float(np.abs(outputs[1] - expected[1]).max())) > TAG_DIFFERENCE:
            raise BundleError(
                f"parity: at {size} the probability of a tag differs by {difference:.3f} between ONNX and PyTorch, at "
                f"most {TAG_DIFFERENCE} is accepted; {remedy}"
            )
        advance(1)
    return worst


class _Exported(nn.Module):
    """A CPU copy of the network that takes and gives float32 in either precision."""

    def __init__(self, network: ServedNetwork, precision: Precision) -> None:
        super().__init__()
        self.network = _on_cpu(network)
        for module in self.network.modules():
            module.__class__ = _ONNX.get(type(module), type(module))
            if hasattr(module, "inplace"):
                # It has no meaning in a graph, and tracing takes half the time without.
                module.inplace = False  # type: ignore[assignment]
        if precision == "fp16":
            backbone = self.network.pixelnet.half().backbone
            backbone.mean, backbone.std = backbone.mean.float(), backbone.std.float()
            backbone.network = nn.Sequential(_Half(), backbone.network)  # 0..255 is normalized in float32

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """As ServedNetwork."""
        probabilities, tags = self.network(image)
        return probabilities, tags


class _Half(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.half()


class _OnnxSame(Conv2dSame):
    """TensorFlow's SAME convolution as ONNX's own.

    timm computes the padding from the input size; traced, this arithmetic becomes a padding operator before each such
    convolution and makes the export several times slower.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D, ceil(H / stride), ceil(W / stride))."""
        rows, columns = self.stride
        inputs: tuple[Tensor, ...] = (x, self.weight) if self.bias is None else (x, self.weight, self.bias)
        return torch.onnx.ops.symbolic(
            "Conv",
            inputs,
            {"auto_pad": "SAME_UPPER", "strides": self.stride, "dilations": self.dilation, "group": self.groups},
            dtype=x.dtype,
            shape=(x.shape[0], self.out_channels, (x.shape[2] - 1) // rows + 1, (x.shape[3] - 1) // columns + 1),
        )


class _OnnxNorm(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return _normalized(self, x)


class _OnnxNormAct(BatchNormAct2d):
    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        activated: Tensor = self.act(self.drop(_normalized(self, x)))
        return activated


def _normalized(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Batch norm as ONNX's own, which the exporter folds into a convolution before it.

    It does so with torch's arithmetic as well, but tracing this takes a quarter of the default backbone's export.
    """
    inputs = (x, norm.weight, norm.bias, norm.running_mean, norm.running_var)
    return torch.onnx.ops.symbolic("BatchNormalization", inputs, {"epsilon": norm.eps}, dtype=x.dtype, shape=x.shape)


_ONNX = {Conv2dSame: _OnnxSame, nn.BatchNorm2d: _OnnxNorm, BatchNormAct2d: _OnnxNormAct}
"""What takes the place of a module's class to be exported; only ONNX can run it."""


def _on_cpu(network: ServedNetwork) -> ServedNetwork:
    return copy.deepcopy(network).cpu().float().eval()


def _remove_source(graph: onnx.GraphProto) -> None:
    """Remove what the exporter records of each node's source: stack traces with paths of this machine."""
    graph.doc_string = ""
    for each in (graph, *graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output):
        each.ClearField("metadata_props")
        each.ClearField("doc_string")
