"""A softmax in steps gives what ONNX Runtime's own gives."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tagmask import network
from tagmask.bundle import read_bundle
from tagmask.network import Network
from tagmask.session import open_session
from tagmask.softmax import split_softmax
from tests.training.colour_bundle import colour_model


def operators(data: bytes) -> set[str]:
    return {node.op_type for node in onnx.ModelProto.FromString(data).graph.node}


@pytest.mark.parametrize("largest", [1, 255, 1e6])  # of which the exponentials of the last are infinite
def test_the_probabilities_are_the_same(largest: float):
    whole = colour_model().SerializeToString()
    split = split_softmax(whole, "probabilities")
    assert "Softmax" in operators(whole)
    assert "Softmax" not in operators(split)
    image = np.random.default_rng(0).uniform(-largest, largest, (2, 3, 40, 50)).astype(np.float32)
    before, after = (open_session(data, threads=1).run(None, {"image": image})[0] for data in (whole, split))
    np.testing.assert_allclose(after, before, atol=1e-6)


def changed(**attributes: int) -> onnx.ModelProto:
    model = colour_model()
    del model.graph.node[-1].attribute[:]
    model.graph.node[-1].attribute.extend(onnx.helper.make_attribute(*each) for each in attributes.items())
    return model


def of_opset(version: int) -> onnx.ModelProto:
    model = colour_model()
    model.opset_import[0].version = version
    return model


@pytest.mark.parametrize("model", [changed(axis=-1), changed(), of_opset(17), colour_model("other")])
def test_any_other_is_left(model: onnx.ModelProto):
    data = model.SerializeToString()
    assert split_softmax(data, "probabilities") == data


def test_a_loaded_network_has_it_in_steps(colour_bundle: Path, monkeypatch: pytest.MonkeyPatch):
    opened: list[bytes] = []
    opener = network.open_session

    def watched(data: bytes, **options: Any) -> Any:
        opened.append(data)
        return opener(data, **options)

    monkeypatch.setattr(network, "open_session", watched)
    Network(read_bundle(colour_bundle), "cpu", 1, 60)
    assert [operators(data) & {"Softmax", "Exp"} for data in opened] == [{"Exp"}]
