from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import training.networks.export
from tagmask.bundle import read_bundle, read_metadata
from tagmask.errors import BundleError
from tagmask.metadata import TAGS
from tagmask.session import open_session
from tests.training.colour_bundle import describe
from tests.training.conftest import draw_photos
from training.networks.export import check_parity, export
from training.networks.pixelnet import PixelNet
from training.networks.taghead import ServedNetwork, TagHead

SIZES = [(1, 96, 128), (2, 161, 97), (1, 320, 240), (3, 33, 47), (1, 32, 32), (1, 32, 200)]


TAGGED = {"tags": TAGS, "tag_shares": (0.5, 0.25)}


def make(backbone: str) -> ServedNetwork:
    torch.manual_seed(0)
    pixelnet = PixelNet(3, backbone, 16, "random")
    return ServedNetwork(pixelnet, TagHead(nn.Linear(2 * pixelnet.backbone.channels[-1], 2)))


@pytest.fixture(scope="module")
def network() -> ServedNetwork:
    """The default backbone, whose padding depends on the size of its input."""
    return make("tf_efficientnet_lite0").train()


@pytest.fixture(scope="module")
def bundle(network: ServedNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "model.onnx"
    export(network, path, describe(**TAGGED))
    return path


@pytest.mark.parametrize("shape", SIZES)
def test_any_batch_height_and_width(network: ServedNetwork, bundle: Path, shape: tuple[int, int, int]):
    batch, height, width = shape
    image = np.random.default_rng(1).uniform(0, 255, (batch, 3, height, width)).astype(np.float32)
    probabilities, tags = open_session(bundle, device="cpu", threads=1).run(["probabilities", "tags"], {"image": image})
    assert probabilities.dtype == np.float32
    assert probabilities.shape == (batch, 3, height, width)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    network.eval()
    with torch.inference_mode():
        expected = [output.numpy() for output in network(torch.from_numpy(image))]
    network.train()
    np.testing.assert_allclose(probabilities, expected[0], atol=1e-5)
    assert (tags.dtype, tags.shape) == (np.float32, (batch, 2))
    np.testing.assert_allclose(tags, expected[1], atol=1e-5)


def test_the_file_is_whole_small_and_anonymous(network: ServedNetwork, bundle: Path):
    assert list(bundle.parent.iterdir()) == [bundle]
    onnx.checker.check_model(onnx.load(bundle), full_check=True)
    weights = sum(4 * tensor.numel() for tensor in network.parameters())
    assert bundle.stat().st_size < 1.1 * weights + 100_000
    assert str(Path(__file__).parents[3]).encode() not in bundle.read_bytes()
    assert read_metadata(bundle) == describe(**TAGGED, created=read_metadata(bundle).created)


def test_the_network_stays_as_it_was(network: ServedNetwork, bundle: Path):
    assert network.training
    assert {tensor.dtype for tensor in network.parameters()} == {torch.float32}
    image = torch.full((1, 3, 40, 40), 99.0)
    assert network(image)[0].shape == (1, 3, 40, 40)  # its own padding is still there, which PyTorch can run


def test_parity_accepts_the_network_and_refuses_another(network: ServedNetwork, bundle: Path):
    photo = np.random.default_rng(2).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    assert check_parity(network, bundle, photos=[photo]) >= 0.999
    with pytest.raises(BundleError, match=r"parity: at \d+x\d+ pixels, batch 1"):
        check_parity(make("test_resnet"), bundle)


def test_half_precision_quietly(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    path = tmp_path / "model.onnx"
    network = make("test_resnet")
    export(network, path, describe(**TAGGED), precision="fp16")
    assert capfd.readouterr() == ("", "")
    assert read_metadata(path).precision == "fp16"
    model = onnx.load(path)
    stored = {each.name: each.data_type for each in model.graph.initializer if np.prod(each.dims) > 16}
    assert {name for name, kind in stored.items() if kind != onnx.TensorProto.FLOAT16} <= {"network.tags.linear.weight"}
    ports = [*model.graph.input, *model.graph.output]
    assert [port.type.tensor_type.elem_type for port in ports] == [onnx.TensorProto.FLOAT] * 3


def test_a_network_that_fails_parity_leaves_nothing(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        training.networks.export, "to_onnx", lambda network, precision: onnx.load(bundle)
    )  # another's graph
    with pytest.raises(BundleError, match="nothing is exported"):
        export(make("test_resnet"), tmp_path / "model.onnx", describe(**TAGGED))
    assert list(tmp_path.iterdir()) == []


def test_tags_that_differ_fail(network: ServedNetwork, bundle: Path):
    model = onnx.load(bundle)
    bias = next(each for each in model.graph.initializer if each.name.endswith("tags.linear.bias"))
    bias.raw_data = np.full(2, 3, dtype=np.float32).tobytes()
    with pytest.raises(BundleError, match="the probability of a tag differs by 0"):
        check_parity(network, model.SerializeToString())


def test_outputs_that_are_not_finite_fail(network: ServedNetwork, bundle: Path):
    model = onnx.load(bundle)
    bias = next(each for each in model.graph.initializer if each.name.endswith("labels.bias"))
    bias.raw_data = np.full(3, np.nan, dtype=np.float32).tobytes()
    with pytest.raises(BundleError, match="finite"):
        check_parity(network, model.SerializeToString())


def test_int8_by_calibration_photos(tmp_path: Path):
    network = make("test_resnet")
    for module in network.modules():  # larger differences between labels than those of an untrained network
        if isinstance(module, torch.nn.Conv2d) and module.out_channels == 3:
            torch.nn.init.normal_(module.weight, std=3)
    photos = [photo.path for photo in draw_photos(tmp_path, 6).photos]
    path = tmp_path / "model.onnx"
    export(network, path, describe(**TAGGED), precision="int8", calibration=photos)
    metadata = read_bundle(path).metadata
    assert "-int8-" in metadata.version
    assert metadata.quantization is not None
    assert metadata.quantization.calibration_photos == 4
    assert check_parity(network, path, least=0.9) >= 0.9
