import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from tagmask.bundle import MAX_BYTES, MAX_METADATA, Bundle, read_bundle, read_metadata, write_bundle, write_decision
from tagmask.errors import BundleError
from tests.training.colour_bundle import colour_model, describe, write_colour_bundle

PRETRAINED = Path(__file__).parents[2] / "tagmask/pretrained/animals.onnx"
Change = Callable[[onnx.ModelProto], object]


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_colour_bundle(tmp_path_factory.mktemp("bundle") / "model.onnx")


def refused(path: Path, **arguments: Any) -> str:
    """The message with which `read_bundle` refuses a file: one line that names it."""
    with pytest.raises(BundleError) as caught:
        read_bundle(path, **arguments)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert "; " in message, "a remedy"
    return message


def with_text(path: Path, text: str | bytes) -> Path:
    """A network with `text` as its metadata."""
    model = colour_model()
    model.metadata_props.add(key="tagmask", value="?" * 50 if isinstance(text, bytes) else text)
    data = model.SerializeToString()
    path.write_bytes(data.replace(b"?" * 50, text.ljust(50)) if isinstance(text, bytes) else data)
    return path


def test_what_training_wrote_is_read(tmp_path: Path):
    metadata = describe(metrics={"miou": 56.5, "iou": [90.0, None]}, settings={"crf": {"steps": 5}}, precision="fp16")
    path = tmp_path / "model.onnx"
    write_bundle(path, colour_model(), metadata)
    read = read_bundle(path)
    assert read.data == path.read_bytes()
    assert (read.sha256, read.path) == (hashlib.sha256(read.data).hexdigest(), path)
    assert read.metadata == metadata
    assert read.metadata.version == "0123456789ab-fp16"
    assert read_metadata(path) == read.metadata


def test_the_checksum_decides(colours: Path):
    due = hashlib.sha256(colours.read_bytes()).hexdigest()
    assert read_bundle(colours, due).sha256 == due
    assert "expected 00" in refused(colours, sha256="0" * 64)


def test_what_is_no_file(tmp_path: Path):
    assert "No such file or directory); restore it, or name another one" in refused(tmp_path / "absent.onnx")
    assert "not a regular file" in refused(tmp_path)
    os.mkfifo(tmp_path / "pipe.onnx")
    assert "not a regular file" in refused(tmp_path / "pipe.onnx")
    assert "Not a directory" in refused(Path(__file__) / "model.onnx")
    assert "File name too long" in refused(tmp_path / ("x" * 300))


def test_what_is_too_large_is_not_read(tmp_path: Path):
    path = tmp_path / "model.onnx"
    path.touch()
    os.truncate(path, MAX_BYTES + 1)  # takes no room on the disk
    assert "more than 2,147,483,647" in refused(path)


@pytest.mark.parametrize(("content", "why"), [(b"", "empty"), (b"\x08\x07", "empty"), (b"no model\n", "not an ONNX")])
def test_what_is_no_onnx(tmp_path: Path, content: bytes, why: str):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert why in refused(path)


def test_onnx_of_somebody_else(tmp_path: Path):
    path = tmp_path / "model.onnx"
    onnx.save(colour_model(), path)
    assert "without the metadata 'tagmask'" in refused(path)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[" * (MAX_METADATA + 1), "more than 10,000,000"),
        (b'{"format": 1, "tagmask": "\xff\xfe"}', "not JSON"),
        ('{"format": 1, "metrics": {"miou": NaN}}', "not JSON"),
        ('{"format": 1, "metrics": {"miou": 1e999}}', "not JSON"),
        ('{"format": 1, "backbone": "\\ud800"}', "not JSON"),
        ("[1]", "format None, this version of Tagmask reads format 1"),
        ('{"format": 2}', "format 2, this version of Tagmask reads format 1"),
        ('{"format": 1}', "field tagmask"),
    ],
)
def test_metadata_that_cannot_be_read(tmp_path: Path, text: str | bytes, why: str):
    path = with_text(tmp_path / "model.onnx", text)
    assert why in refused(path)
    with pytest.raises(BundleError):
        read_metadata(path)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"version": "fedcba987654"}, "is not '0123456789ab', which follows from the digests"),
        ({"version": "../../etc"}, "is not '0123456789ab'"),
        ({"weights_digest": "../.." + "0" * 59}, "field weights_digest"),
        ({"precision": "../fp8"}, "field precision"),
        ({"classes": ["cat", "dog", "cow"]}, "must begin with 'background'"),
        ({"classes": 3}, "field classes"),
        ({"classes": ["background", "cat", "cat"]}, "differ"),
        ({"classes": ["background", "cat", "d\nog"]}, "contains white space"),
        ({"classes": ["background", "cat", "big dog"]}, "class 'big dog' contains white space"),
        ({"classes": ["background", "cat", ""]}, "class '' is empty"),
        ({"classes": ["background", *map(str, range(255))], "palette": [[0, 0, 0]] * 256}, "field classes"),
        ({"palette": [[0, 0, 0]]}, "1 colours for 3 classes"),
        ({"palette": [[0, 0, 0], [0, 0, 0], [0, 0, 256]]}, "field palette.2.2"),
        ({"working_size": 0}, "field working_size"),
        ({"working_size": 100_000}, "field working_size"),
        ({"tile": 31}, "field tile"),
        ({"tile": 65_536}, "field tile"),
        ({"smallest_size": 81}, "above working_size 80"),
        (
            {"working_size": 4096, "classes": ["background", *map(str, range(16))], "palette": [[0, 0, 0]] * 17},
            "working_size 4096 with 17 classes is an output of 1,140,850,688 bytes, more than 1,073,741,824",
        ),
        ({"input": {"name": "image", "layout": "NHWC", "dtype": "float32"}}, "field input.layout"),
        ({"output": {"name": "probabilities", "layout": "NCHW", "dtype": "float16"}}, "field output.dtype"),
        ({"created": "yesterday"}, "field created"),
        ({"metrics": [1]}, "field metrics"),
        ({"input": {"name": "photo", "layout": "NCHW", "dtype": "float32"}}, "names 'photo'"),
        ({"output": {"name": "masks", "layout": "NCHW", "dtype": "float32"}}, "names 'masks'"),
        ({"classes": ["background", "cat"], "palette": [[0, 0, 0]] * 2}, "must be float32 (N, 2, H, W)"),
    ],
)
def test_metadata_that_cannot_be(tmp_path: Path, changed: dict[str, object], why: str):
    metadata = json.loads(describe().model_dump_json()) | changed
    assert why in refused(with_text(tmp_path / "model.onnx", json.dumps(metadata)))


def test_fields_of_a_later_tagmask_are_ignored(tmp_path: Path):
    metadata = json.loads(describe().model_dump_json())
    later = metadata | {"mood": "sunny", "input": metadata["input"] | {"mean": 0.5}}
    read = read_metadata(with_text(tmp_path / "later.onnx", json.dumps(later)))
    assert read == read_metadata(with_text(tmp_path / "now.onnx", json.dumps(metadata)))


def test_a_bundle_of_the_first_schema_is_read(tmp_path: Path):
    metadata = json.loads(describe().model_dump_json()) | {"created": "2026-07-01T12:00:00+00:00"}
    metadata["input"] |= {"values": "RGB, 0..255, not normalized"}
    read = read_metadata(with_text(tmp_path / "model.onnx", json.dumps(metadata)))
    assert (read.version, read.created.isoformat()) == ("0123456789ab", "2026-07-01T12:00:00+00:00")
    assert read_bundle(PRETRAINED).metadata.classes[1:] == ("cat", "cow", "dog", "horse", "person", "sheep")


def test_bundles_with_and_without_a_decision_are_read(tmp_path: Path):
    metadata = json.loads(describe().model_dump_json())
    del metadata["decision"]  # as those before the gate were written
    path = with_text(tmp_path / "model.onnx", json.dumps(metadata))
    before = read_bundle(path)
    write_decision(path, {"promoted": True, "rules": [{"value": None, "limit": 0.5}]})
    after = read_bundle(path)
    assert after.metadata.model_copy(update={"decision": None}) == before.metadata
    assert after.sha256 != before.sha256


def second_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("size", TensorProto.INT64, [2]))


def halve(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16


def flatten(model: onnx.ModelProto) -> None:
    del model.graph.input[0].type.tensor_type.shape.dim[0]


def turn(model: onnx.ModelProto) -> None:
    model.graph.node.append(model.graph.node.pop(0))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (second_input, "the network has ['image', 'size']"),
        (halve, "inconsistent type"),
        (turn, "topolog"),
        (lambda model: setattr(model.graph.node[0], "op_type", "Convolve"), "Convolve"),
        (lambda model: model.graph.node[0].input.append("absent"), "absent"),
        (lambda model: setattr(model.graph.initializer[0], "raw_data", b"short"), "weight"),
        (lambda model: model.graph.ClearField("output"), "no valid network"),
        (lambda model: model.ClearField("opset_import"), "opset"),
    ],
)
def test_networks_that_cannot_be(tmp_path: Path, change: Change, why: str):
    model = colour_model()
    change(model)
    path = tmp_path / "model.onnx"
    write_bundle(path, model, describe())
    assert why in refused(path)


def test_without_the_checker_what_is_told_still_has_to_agree(tmp_path: Path):
    path = tmp_path / "model.onnx"
    model = colour_model()
    model.graph.node[0].op_type = "Convolve"
    write_bundle(path, model, describe())
    assert isinstance(read_bundle(path, checked=False), Bundle)
    for change, found in ((halve, "FLOAT16 [0, 3, 0, 0]"), (flatten, "FLOAT [3, 0, 0]"), (second_input, "'size'")):
        model = colour_model()
        change(model)
        write_bundle(path, model, describe())
        assert found in refused(path, checked=False)


def test_an_initializer_that_is_listed_as_input_is_none(tmp_path: Path):
    model = colour_model()
    model.graph.input.append(helper.make_tensor_value_info("bias", TensorProto.FLOAT, [3]))
    write_bundle(tmp_path / "model.onnx", model, describe())
    assert isinstance(read_bundle(tmp_path / "model.onnx"), Bundle)


def test_a_bundle_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write_colour_bundle(tmp_path / "inside.onnx")
    split = tmp_path / "model.onnx"
    onnx.save(onnx.load(path), split, save_as_external_data=True, location="weights.bin", size_threshold=0)
    monkeypatch.chdir(tmp_path)  # where the checker would find weights.bin
    assert "'weight' is stored in another file" in refused(split)


def test_a_tensor_of_a_subgraph_is_inside_too(tmp_path: Path):
    outside = TensorProto(name="secret", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    outside.external_data.add(key="location", value="/etc/passwd")
    constant = helper.make_node("Constant", [], ["value"], value=outside)
    branch = helper.make_graph([constant], "branch", [], [helper.make_empty_tensor_value_info("value")])
    model = colour_model()
    model.graph.node.append(helper.make_node("If", ["which"], ["unused"], then_branch=branch, else_branch=branch))
    write_bundle(tmp_path / "model.onnx", model, describe())
    assert "'secret' is stored in another file" in refused(tmp_path / "model.onnx", checked=False)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    length=st.integers(0, 1200) | st.none(),
    flips=st.lists(st.tuples(st.integers(0, 1199), st.integers(1, 255)), max_size=3),
)
def test_damaged_bytes_give_a_bundle_or_its_refusal(
    colours: Path, tmp_path: Path, length: int | None, flips: list[tuple[int, int]]
):
    data = bytearray(colours.read_bytes()[:length])
    for place, bits in flips:
        if data:
            data[place % len(data)] ^= bits
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    try:
        read = read_bundle(path)
    except BundleError:
        return
    assert read.data == data
