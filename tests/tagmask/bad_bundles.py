"""Bundles whose networks harm who runs them, some of them only on bright photos."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from tagmask.bundle import write_bundle
from tests.training.colour_bundle import colour_model, describe

BRIGHT = 200
"""A photo with a value above it triggers the faults of the networks `on_bright`."""


def write_bad_bundle(path: Path, model: onnx.ModelProto) -> Path:
    """The bundle of version "bad0bad0bad0"."""
    write_bundle(path, model, describe(weights_digest="bad0" * 16))
    return path


def endless() -> onnx.ModelProto:
    """Its loop does not end."""
    return _with([_loop("forever")], forever=np.int64(2**62))


def endless_on_bright() -> onnx.ModelProto:
    return _with([helper.make_node("Mul", ["bright", "forever"], ["count"]), _loop("count")], forever=np.int64(2**62))


def infinite_on_bright() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Sub", ["one", "bright"], ["dark"]),
        helper.make_node("Cast", ["dark"], ["divisor"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["given", "divisor"], ["probabilities"]),
    ]
    return _with(nodes, one=np.int64(1))


def short_on_bright() -> onnx.ModelProto:
    """Its output has a row less."""
    nodes = [
        helper.make_node("Reshape", ["bright", "axis"], ["start"]),
        helper.make_node("Slice", ["given", "start", "end", "two"], ["probabilities"]),
    ]
    return _with(nodes, axis=np.array([1]), end=np.array([9999]), two=np.array([2]))


def failing_on_bright() -> onnx.ModelProto:
    return _with(
        [helper.make_node("Gather", ["table", "bright"], ["one"]), _scaled("one")], table=np.ones(1, np.float32)
    )


def giant() -> onnx.ModelProto:
    """It makes a tensor of 40 GB."""
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("ReduceMax", ["zeros"], ["zero"], keepdims=0),
        helper.make_node("Add", ["given", "zero"], ["probabilities"]),
    ]
    return _with(nodes, shape=np.array([10, 1000, 1000, 1000]))


def foreign() -> onnx.ModelProto:
    """It has an operator of somebody else."""
    model = _with([helper.make_node("Blur", ["given"], ["probabilities"], domain="somebody.else")])
    model.opset_import.append(helper.make_opsetid("somebody.else", 1))
    return model


def modern() -> onnx.ModelProto:
    """It is of an opset that does not exist yet."""
    model = colour_model()
    model.opset_import[0].version = 99
    return model


def _with(nodes: list[NodeProto], **constants: np.ndarray | np.generic) -> onnx.ModelProto:
    """The network of the colours, whose result `given` is made `probabilities` by `nodes`; they may use `bright`."""
    model = colour_model("given")
    model.graph.output[0].name = "probabilities"
    bright = [
        helper.make_node("ReduceMax", ["image"], ["most"], keepdims=0),
        helper.make_node("Greater", ["most", "limit"], ["is_bright"]),
        helper.make_node("Cast", ["is_bright"], ["bright"], to=TensorProto.INT64),
    ]
    model.graph.node.extend([*bright, *nodes])
    constants = {"limit": np.float32(BRIGHT), "true": np.bool_(True), **constants}
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()
    )
    return model


def _loop(count: str) -> NodeProto:
    value: Callable[..., onnx.ValueInfoProto] = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Identity", ["now"], ["next"])],
        "body",
        [
            value("turn", TensorProto.INT64, []),
            value("go", TensorProto.BOOL, []),
            value("now", TensorProto.FLOAT, None),
        ],
        [value("go_on", TensorProto.BOOL, []), value("next", TensorProto.FLOAT, None)],
    )
    return helper.make_node("Loop", [count, "true", "given"], ["probabilities"], body=body)


def _scaled(factor: str) -> NodeProto:
    return helper.make_node("Mul", ["given", factor], ["probabilities"])
