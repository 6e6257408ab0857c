from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import training.networks.export
from tagmask.bundle import read_metadata
from tagmask.errors import BundleError
from tagmask.session import open_session
from tests.training.colour_bundle import describe
from training.networks.export import check_parity, export
from training.networks.pixelnet import PixelNet

SIZES = [(1, 96, 128), (2, 161, 97), (1, 320, 240), (3, 33, 47), (1, 32, 32), (1, 32, 200)]


def make(backbone: str) -> PixelNet:
    torch.manual_seed(0)
    return PixelNet(3, backbone, 16, "random")


@pytest.fixture(scope="module")
def network() -> PixelNet:
    """The default backbone, whose padding depends on the size of its input."""
    return make("tf_efficientnet_lite0").train()


@pytest.fixture(scope="module")
def bundle(network: PixelNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "model.onnx"
    export(network, path, describe())
    return path


@pytest.mark.parametrize("shape", SIZES)
def test_any_batch_height_and_width(network: PixelNet, bundle: Path, shape: tuple[int, int, int]):
    batch, height, width = shape
    image = np.random.default_rng(1).uniform(0, 255, (batch, 3, height, width)).astype(np.float32)
    probabilities = open_session(bundle, device="cpu", threads=1).run(["probabilities"], {"image": image})[0]
    assert probabilities.dtype == np.float32
    assert probabilities.shape == (batch, 3, height, width)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    network.eval()
    with torch.inference_mode():
        expected = network(torch.from_numpy(image)).softmax(dim=1).numpy()
    network.train()
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)


def test_the_file_is_whole_small_and_anonymous(network: PixelNet, bundle: Path):
    assert list(bundle.parent.iterdir()) == [bundle]
    onnx.checker.check_model(onnx.load(bundle), full_check=True)
    weights = sum(4 * tensor.numel() for tensor in network.parameters())
    assert bundle.stat().st_size < 1.1 * weights + 100_000
    assert str(Path(__file__).parents[3]).encode() not in bundle.read_bytes()
    assert read_metadata(bundle) == describe(created=read_metadata(bundle).created)


def test_the_network_stays_as_it_was(network: PixelNet, bundle: Path):
    assert network.training
    assert {tensor.dtype for tensor in network.parameters()} == {torch.float32}
    image = torch.full((1, 3, 40, 40), 99.0)
    assert network(image).shape == (1, 3, 40, 40)  # its own padding is still there, which PyTorch can run


def test_parity_accepts_the_network_and_refuses_another(network: PixelNet, bundle: Path):
    photo = np.random.default_rng(2).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    assert check_parity(network, bundle, photos=[photo]) >= 0.999
    with pytest.raises(BundleError, match=r"parity: at \d+x\d+ pixels, batch 1"):
        check_parity(make("test_resnet"), bundle)


def test_half_precision_quietly(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    path = tmp_path / "model.onnx"
    network = make("test_resnet")
    export(network, path, describe(), precision="fp16")
    assert capfd.readouterr() == ("", "")
    assert read_metadata(path).precision == "fp16"
    model = onnx.load(path)
    stored = {each.name: each.data_type for each in model.graph.initializer if np.prod(each.dims) > 16}
    assert set(stored.values()) == {onnx.TensorProto.FLOAT16}
    ports = [*model.graph.input, *model.graph.output]
    assert [port.type.tensor_type.elem_type for port in ports] == [onnx.TensorProto.FLOAT] * 2


def test_a_network_that_fails_parity_leaves_nothing(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        training.networks.export, "to_onnx", lambda network, precision: onnx.load(bundle)
    )  # another's graph
    with pytest.raises(BundleError, match="nothing is exported"):
        export(make("test_resnet"), tmp_path / "model.onnx", describe())
    assert list(tmp_path.iterdir()) == []


def test_outputs_that_are_not_finite_fail(network: PixelNet, bundle: Path):
    model = onnx.load(bundle)
    bias = next(each for each in model.graph.initializer if each.name.endswith("labels.bias"))
    bias.raw_data = np.full(3, np.nan, dtype=np.float32).tobytes()
    with pytest.raises(BundleError, match="finite"):
        check_parity(network, model.SerializeToString())
