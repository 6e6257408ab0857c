"""int8 networks in float32, and which of the two is used."""

from collections.abc import Callable
from itertools import accumulate, cycle
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tagmask.bundle import Bundle, make_bundle, read_bundle
from tagmask.dequantization import dequantize
from tagmask.errors import BundleError
from tagmask.metadata import Quantization
from tagmask.network import Network
from tagmask.photos import read_photo
from tagmask.session import open_session
from tests.training.colour_bundle import colour_model, describe
from tests.training.conftest import draw_photos
from training.networks.quantization import quantize


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return [photo.path for photo in draw_photos(tmp_path_factory.mktemp("photos"), 6).photos]


@pytest.fixture(scope="module")
def int8(colour_bundle: Path, photos: list[Path]) -> Bundle:
    return quantize(read_bundle(colour_bundle), photos)


def clock(int8: float, fp32: float) -> Callable[[], float]:
    """A clock by which a photo takes so many seconds."""
    return accumulate(cycle((0, int8, 0, fp32))).__next__


@pytest.mark.parametrize(("seconds", "precision"), [((2, 1), "fp32"), ((1, 2), "int8"), ((1.05, 1), "int8")])
def test_the_faster_is_used(int8: Bundle, photos: list[Path], seconds: tuple[float, float], precision: str):
    network = Network(int8, "cpu", 1, 60, clock=clock(*seconds))
    assert network.precision == precision
    photo = read_photo(photos[-1])
    image = photo.transpose(2, 0, 1)[None].astype(np.float32)
    data = int8.data if precision == "int8" else dequantize(int8)
    expected = open_session(data, device="cpu", threads=1).run(None, {"image": image})[0][0]
    np.testing.assert_allclose(network.infer(photo).probabilities, expected, atol=1e-5)


def test_float_bundles_are_not_timed(colour_bundle: Path):
    def no_clock() -> float:
        raise AssertionError

    assert Network(read_bundle(colour_bundle), "cpu", 1, 60, clock=no_clock).precision == "fp32"


def relu_model() -> onnx.ModelProto:
    """The colours' scores from features that a Relu limits, so that quantization replaces it."""
    model = colour_model()
    weight = np.random.default_rng(0).normal(0, 0.01, (8, 3, 1, 1)).astype(np.float32)
    first = helper.make_node("Conv", ["image", "first"], ["features"])
    model.graph.node[0].input[:] = ["limited", "second"]
    second = np.random.default_rng(1).normal(0, 1, (3, 8, 1, 1)).astype(np.float32)
    del model.graph.initializer[:]
    model.graph.initializer.extend(
        [numpy_helper.from_array(weight, "first"), numpy_helper.from_array(second, "second")]
    )
    nodes = [first, helper.make_node("Relu", ["features"], ["limited"]), *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def test_in_float_it_is_the_network_before_quantization_but_for_rounding(photos: list[Path], tmp_path: Path):
    source = make_bundle(tmp_path / "model.onnx", relu_model(), describe())
    quantized = quantize(source, photos)
    operators = [node.op_type for node in onnx.ModelProto.FromString(quantized.data).graph.node]
    assert "QuantizeLinear" in operators
    assert "Relu" not in operators
    data = dequantize(quantized)
    onnx.checker.check_model(data, full_check=True)
    assert not {"QuantizeLinear", "DequantizeLinear"} & {
        node.op_type for node in onnx.ModelProto.FromString(data).graph.node
    }
    image = read_photo(photos[0]).transpose(2, 0, 1)[None].astype(np.float32)
    outputs = [
        open_session(each, device="cpu", threads=1).run(None, {"image": image})[0]
        for each in (source.data, quantized.data, data)
    ]
    float_error, int8_error = (np.abs(output - outputs[0]).mean() for output in (outputs[2], outputs[1]))
    assert float_error < int8_error < 0.02


def test_another_network_that_says_it_is_int8_is_refused(tmp_path: Path):
    model = colour_model()
    model.graph.node.insert(0, helper.make_node("DequantizeLinear", ["bytes", "scale", "zero"], ["floats"]))
    model.graph.initializer.append(numpy_helper.from_array(np.array(1, dtype=np.float32), "scale"))
    done = Quantization(calibration_digest="0" * 64, calibration_photos=1, agreement=1, compared_photos=1)
    bundle = make_bundle(tmp_path / "odd.onnx", model, describe(precision="int8", quantization=done))
    with pytest.raises(BundleError, match=r"odd\.onnx: its network is not one in int8 .*write it again"):
        dequantize(bundle)


@pytest.mark.parametrize(
    ("flags", "exact"), [("avx2 avx512_vnni", ""), ("avx2 avx_vnni", ""), ("avx2", "1"), (None, "1")]
)
def test_sums_that_could_overflow_are_exact(
    int8: Bundle, flags: str | None, exact: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    processor = tmp_path / "cpuinfo"
    if flags is not None:
        processor.write_text(f"flags\t\t: fpu {flags} sse\n")
    monkeypatch.setattr("tagmask.session._PROCESSOR", processor)
    options = open_session(int8.data, device="cpu", threads=1).get_session_options()
    if exact:
        assert options.get_session_config_entry("session.x64quantprecision") == "1"
    else:
        with pytest.raises(RuntimeError, match="x64quantprecision"):
            options.get_session_config_entry("session.x64quantprecision")
