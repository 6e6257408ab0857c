"""A bundle whose answers are known: a pixel is what its colour is nearest to, by one convolution and a softmax."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tagmask.bundle import add_samples, write_bundle
from tagmask.metadata import TAGS, Metadata

COLOURS = {"background": (90, 140, 80), "cat": (200, 40, 40), "dog": (40, 60, 190)}
SHARPNESS = 2e-3  # of the softmax, per squared grey level


def describe(**changed: Any) -> Metadata:
    metadata: dict[str, Any] = {
        "tagmask": "0.1.0",
        "weights_digest": "0123456789abcdef" * 4,
        "classes": tuple(COLOURS),
        "working_size": 80,
        "backbone": "colours",
        "rounds": 1,
        "photos": 3,
        "data_digest": "fedcba9876543210" * 4,
    }
    return Metadata.model_validate(metadata | changed)


def colour_model(output: str = "probabilities") -> onnx.ModelProto:
    colours = np.array(list(COLOURS.values()), dtype=np.float32)
    # -|x - c|^2 = 2 c x - |c|^2 + a term that all colours share and the softmax cancels
    weight = (2 * SHARPNESS * colours)[:, :, None, None]
    bias = -SHARPNESS * (colours**2).sum(axis=1)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "weight", "bias"], ["scores"]),
            helper.make_node("Softmax", ["scores"], [output], axis=1),
        ],
        "colours",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, "height", "width"])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", len(colours), "height", "width"])],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(bias, "bias")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def tagged_model(*probabilities: float) -> onnx.ModelProto:
    """The same, which also finds every photo to show the tags with these probabilities."""
    model = colour_model()
    tags = np.array([probabilities], dtype=np.float32)
    model.graph.initializer.append(numpy_helper.from_array(tags, "constant"))
    model.graph.node.append(helper.make_node("Identity", ["constant"], ["tags"]))
    model.graph.output.append(helper.make_tensor_value_info("tags", TensorProto.FLOAT, tags.shape))
    return model


def write_tagged_bundle(path: Path, probabilities: tuple[float, float], shares: tuple[float, float]) -> Path:
    write_bundle(path, tagged_model(*probabilities), describe(tags=TAGS, tag_shares=shares))
    return path


def write_colour_bundle(path: Path, samples: Iterable[str] | None = None, **changed: Any) -> Path:
    model = colour_model()
    if samples is not None:
        add_samples(model, samples)
    write_bundle(path, model, describe(**changed))
    return path
