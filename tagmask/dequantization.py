"""An int8 network in float32, for processors on which int8 is slower.

A QuantizeLinear followed by a DequantizeLinear rounds a tensor and limits it to the range that 8 bits express. In float
the limits remain, as they also stand for the activation before them; the rounding goes. Weights keep their int8 values.
"""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, helper, numpy_helper

from tagmask.bundle import Bundle
from tagmask.errors import BundleError

Constants = dict[str, NDArray[Any]]


def dequantize(bundle: Bundle) -> bytes:
    """The ONNX model of an int8 bundle in float32. Raises BundleError for one that is not quantized by QDQ."""
    model = onnx.ModelProto.FromString(bundle.data)
    try:
        _dequantize(model.graph)
    except (KeyError, ValueError) as fault:
        raise BundleError(
            f"{bundle.path}: its network is not one in int8 as `tagmask quantize` writes it ({fault!r}); write it again"
        ) from fault
    return model.SerializeToString()


def _dequantize(graph: GraphProto) -> None:
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    sources = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    nodes: list[NodeProto] = []
    floats: dict[str, NDArray[np.float32]] = {}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            floats[node.output[0]] = _values(node, constants)
        elif node.op_type == "DequantizeLinear":
            limits = [f"{node.output[0]}_{name}" for name in ("lowest", "highest")]
            floats |= dict(zip(limits, _range(node, constants), strict=True))
            nodes.append(helper.make_node("Clip", [sources[node.input[0]], *limits], node.output))
        elif node.op_type != "QuantizeLinear":
            nodes.append(node)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)
    graph.initializer.extend(numpy_helper.from_array(values, name) for name, values in floats.items())


def _range(node: NodeProto, constants: Constants) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The least and the greatest value that a DequantizeLinear of an activation gives."""
    scale, zero = (constants[name] for name in node.input[1:])
    limits = np.iinfo(zero.dtype)
    lowest, highest = (((limit - zero.astype(np.float32)) * scale) for limit in (limits.min, limits.max))
    return lowest.astype(np.float32), highest.astype(np.float32)


def _values(node: NodeProto, constants: Constants) -> NDArray[np.float32]:
    """What a DequantizeLinear of a constant gives, with one scale, or one for each index of its axis."""
    quantized, scale = (constants[name].astype(np.float64) for name in node.input[:2])
    zero = constants[node.input[2]].astype(np.float64) if len(node.input) > 2 else np.zeros_like(scale)
    if scale.ndim:
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
        shape = [-1 if dimension == axis else 1 for dimension in range(quantized.ndim)]
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    return ((quantized - zero) * scale).astype(np.float32)
