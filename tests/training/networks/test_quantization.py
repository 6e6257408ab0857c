import errno
import hashlib
import re
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from tagmask.bundle import Bundle, make_bundle, read_bundle
from tagmask.errors import BundleError, DataError, RunError
from tagmask.scores import Interval, Measured
from tagmask.segmenter import Segmenter
from tagmask.store import Store
from tests.training.colour_bundle import colour_model, describe
from tests.training.conftest import draw_photos
from training.networks.quantization import quantize


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return [photo.path for photo in draw_photos(tmp_path_factory.mktemp("photos"), 9).photos]


@pytest.fixture
def bundle(colour_bundle: Path) -> Bundle:
    return read_bundle(colour_bundle)


def test_a_quantized_bundle_gives_the_masks_of_its_source(bundle: Bundle, photos: list[Path], tmp_path: Path):
    advanced: list[int] = []
    path = tmp_path / "int8.onnx"
    path.write_bytes(quantize(bundle, photos, advance=advanced.append).data)
    assert sum(advanced) == len(photos)
    written = read_bundle(path)
    assert re.fullmatch(f"{bundle.metadata.version}-int8-[0-9a-f]{{8}}", written.metadata.version)
    weight = next(each for each in onnx.load(path).graph.initializer if each.name == "weight_quantized")
    assert weight.data_type == TensorProto.INT8
    source, quantized = Segmenter(bundle), Segmenter(written)
    for photo in photos:
        masks = [each.segment(photo).mask for each in (source, quantized)]
        assert set(np.unique(masks[0])) > {0}
        assert (masks[0] == masks[1]).mean() > 0.99


def test_metadata_tell_how_it_was_calibrated(bundle: Bundle, photos: list[Path]):
    figure = Interval(58.0, 49.0, 66.0)
    measured = bundle.metadata.model_copy(update={"measured": Measured(8, figure, figure)})
    metadata = quantize(replace(bundle, metadata=measured), photos).metadata
    done = metadata.quantization
    assert done is not None
    assert metadata.model_copy(update={"precision": "fp32", "quantization": None}) == bundle.metadata
    assert (done.calibration_photos, done.compared_photos) == (6, 3)
    assert 0.99 < done.agreement <= 1
    total = hashlib.sha256()
    for index in (0, 1, 3, 4, 6, 7):
        total.update(hashlib.sha256(photos[index].read_bytes()).digest())
    assert done.calibration_digest == total.hexdigest()


def test_the_same_photos_give_the_same_bytes(bundle: Bundle, photos: list[Path]):
    assert quantize(bundle, photos).sha256 == quantize(bundle, photos).sha256


def test_a_store_takes_the_same_weights_quantized_on_other_photos(bundle: Bundle, photos: list[Path], tmp_path: Path):
    store, path = Store(tmp_path / "store"), tmp_path / "int8.onnx"
    for chosen in (photos[:3], photos[3:6]):
        path.write_bytes(quantize(bundle, chosen).data)
        store.publish(path)
    assert len(store.versions()) == 2


def test_an_int8_bundle_without_the_digest_of_its_network_keeps_its_version(bundle: Bundle, photos: list[Path]):
    done = quantize(bundle, photos).metadata.quantization
    assert done is not None
    earlier = describe(precision="int8", quantization=done.model_copy(update={"network_digest": None}))
    assert earlier.version == f"{bundle.metadata.version}-int8"


def test_half_precision_is_quantized_as_float(bundle: Bundle, photos: list[Path]):
    model = colour_model()
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    model.graph.node.insert(0, helper.make_node("Cast", ["image"], ["half"], to=TensorProto.FLOAT16))
    model.graph.node[1].input[0] = "half"
    model.graph.node.insert(2, helper.make_node("Cast", ["scores"], ["whole"], to=TensorProto.FLOAT))
    model.graph.node[3].input[0] = "whole"
    half = make_bundle(bundle.path, model, describe(precision="fp16"))
    quantized = quantize(half, photos)
    assert "-int8-" in quantized.metadata.version
    types = {each.data_type for each in onnx.ModelProto.FromString(quantized.data).graph.initializer}
    assert TensorProto.INT8 in types
    assert TensorProto.FLOAT16 not in types


def test_every_output_stays_as_it_is(bundle: Bundle, photos: list[Path]):
    model = colour_model()
    model.graph.node.append(helper.make_node("ReduceMax", ["probabilities", "sides"], ["tags"], keepdims=0))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([2, 3]), "sides"))
    model.graph.output.append(helper.make_tensor_value_info("tags", TensorProto.FLOAT, ["batch", 3]))
    quantized = onnx.ModelProto.FromString(quantize(make_bundle(bundle.path, model, bundle.metadata), photos).data)
    assert list(quantized.graph.output) == list(model.graph.output)
    makers = {name: node.op_type for node in quantized.graph.node for name in node.output}
    assert (makers["probabilities"], makers["tags"]) == ("Softmax", "ReduceMax")


def test_a_network_that_agrees_too_little_is_refused(bundle: Bundle, photos: list[Path], tmp_path: Path):
    """The photos that calibrate are black, so the ranges leave out what the other photos show."""
    black = tmp_path / "black.png"
    Image.new("RGB", (80, 64)).save(black)
    mixed = [black, black, photos[0], black, black, photos[1]]
    with pytest.raises(BundleError, match=r"model\.onnx: in int8 it agrees .* of 2 photos, at least 97% is needed"):
        quantize(bundle, mixed)


def test_what_cannot_be_quantized(bundle: Bundle, photos: list[Path], tmp_path: Path):
    with pytest.raises(DataError, match="2 photos to quantize to int8 with, at least 3"):
        quantize(bundle, photos[:2])
    with pytest.raises(DataError, match=r"none\.png: photo not found"):
        quantize(bundle, [*photos[:3], tmp_path / "none.png"])
    with pytest.raises(BundleError, match="its precision is int8 already"):
        quantize(quantize(bundle, photos), photos)


def test_a_full_disk_is_not_the_fault_of_the_network(
    bundle: Bundle, photos: list[Path], monkeypatch: pytest.MonkeyPatch
):
    def fill(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(onnx, "save", fill)
    with pytest.raises(RunError, match=r"cannot be written \(No space left on device\); free disk space"):
        quantize(bundle, photos)
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/gone"])
    with pytest.raises(RunError, match="set TMPDIR to a folder"):
        quantize(bundle, photos)


def test_the_first_tenth_of_the_layers_stays_in_float(bundle: Bundle, photos: list[Path]):
    """Ten convolutions that pass colours on, with an activation after each; the eleventh is that of the colours."""
    model = colour_model()
    same = np.eye(3, dtype=np.float32)[:, :, None, None]
    nodes, before = [], "image"
    for number in range(10):
        nodes.append(helper.make_node("Conv", [before, f"same{number}"], [f"features{number}"]))
        nodes.append(helper.make_node("Relu", [f"features{number}"], [f"limited{number}"]))
        model.graph.initializer.append(onnx.numpy_helper.from_array(same, f"same{number}"))
        before = f"limited{number}"
    model.graph.node[0].input[0] = before
    nodes += model.graph.node
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    quantized = onnx.ModelProto.FromString(quantize(make_bundle(bundle.path, model, bundle.metadata), photos).data)
    weights = [node.input[1] for node in quantized.graph.node if node.op_type == "Conv"]
    assert weights[0] == "same0"
    assert {each.data_type for each in quantized.graph.initializer if each.name.startswith("same0")} == {
        TensorProto.FLOAT
    }
    assert [name for name in weights[1:] if not name.endswith("_DequantizeLinear_Output")] == []
    assert [node.op_type for node in quantized.graph.node].count("Relu") == 1
