import json
from datetime import timedelta
from pathlib import Path

import onnx
import pytest
from pydantic import ValidationError

from tagmask.bundle import (
    CORRECTED,
    add_samples,
    read_metadata,
    read_samples,
    write_bundle,
    write_decision,
    write_measured,
)
from tagmask.errors import BundleError
from tagmask.scores import Interval, Measured
from tests.training.colour_bundle import colour_model, describe, write_colour_bundle


def with_text(path: Path, text: str | None) -> Path:
    model = colour_model()
    if text is not None:
        model.metadata_props.add(key="tagmask", value=text)
    path.write_bytes(model.SerializeToString())
    return path


def test_what_is_written_is_read(tmp_path: Path):
    metadata = describe(metrics={"miou": 56.5, "iou": [90.0, None, 1.5]}, settings={"seed": 7, "crf": {"steps": 5}})
    write_bundle(tmp_path / "deep" / "model.onnx", colour_model(), metadata)
    read = read_metadata(tmp_path / "deep" / "model.onnx")
    assert read == metadata
    assert read.version == "0123456789ab"
    assert read.palette == ((0, 0, 0), (128, 0, 0), (0, 128, 0))
    assert read.created.utcoffset() == timedelta(0)


def test_other_tools_find_one_key_of_json(tmp_path: Path):
    path = write_colour_bundle(tmp_path / "model.onnx")
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert [entry.key for entry in model.metadata_props] == ["tagmask"]
    metadata = json.loads(model.metadata_props[0].value)
    assert metadata["version"] == metadata["weights_digest"][:12]
    assert metadata["classes"] == ["background", "cat", "dog"]
    assert metadata["input"]["name"] == "image"


def test_writing_again_replaces_the_metadata(tmp_path: Path):
    path = write_colour_bundle(tmp_path / "model.onnx")
    write_bundle(path, onnx.load(path), describe(photos=9))
    assert read_metadata(path).photos == 9
    assert len(onnx.load(path).metadata_props) == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"classes": ("cat", "dog")},
        {"classes": ("background", "cat", "cat")},
        {"classes": ("background",)},
        {"palette": ((0, 0, 0),)},
        {"weights_digest": "short"},
        {"working_size": 8},
        {"precision": "int8"},
        {"supervision": "guesses"},
        {"supervision": "tags, corrections, hints"},
    ],
)
def test_metadata_that_cannot_be(changed: dict[str, object]):
    with pytest.raises(ValidationError):
        describe(**changed)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "cannot be read"),
        (b"not a model\n", "not an ONNX file"),
        (b"", "not an ONNX file, or empty"),
        (b"\x08\x07", "empty"),
    ],
)
def test_no_onnx_file(tmp_path: Path, content: bytes | None, why: str):
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BundleError, match=why) as caught:
        read_metadata(path)
    assert str(path) in str(caught.value)
    assert ("restore it" if content is None else "tagmask train") in str(caught.value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "without the metadata"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1]", "format None"),
        ('{"format": 2}', "format 2, this version of Tagmask reads format 1"),
        ('{"format": 1}', "field tagmask"),
        (describe().model_dump_json().replace('"background"', '"sky"'), "must begin with 'background'"),
    ],
)
def test_onnx_without_our_metadata(tmp_path: Path, text: str | None, why: str):
    path = with_text(tmp_path / "model.onnx", text)
    with pytest.raises(BundleError, match=why) as caught:
        read_metadata(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_fields_of_a_later_tagmask_are_ignored(tmp_path: Path):
    metadata = describe()
    later = json.loads(metadata.model_dump_json()) | {"mood": "sunny"}
    assert read_metadata(with_text(tmp_path / "model.onnx", json.dumps(later))) == metadata


def test_a_decision_is_written_into_a_bundle(tmp_path: Path):
    path = write_colour_bundle(tmp_path / "model.onnx", metrics={"miou": 56.5})
    before, network = read_metadata(path), onnx.load(path).graph
    assert before.decision is None
    for decision in ({"promoted": False, "rules": [{"value": None}]}, {"promoted": True}):
        assert write_decision(path, decision).decision == decision
        after = read_metadata(path)
        assert after.decision == decision
        assert after.model_copy(update={"decision": None}) == before
        assert onnx.load(path).graph == network
    again = path.read_bytes()
    write_decision(path, {"promoted": True})
    assert path.read_bytes() == again
    assert list(tmp_path.iterdir()) == [path]


def test_a_decision_needs_a_bundle(tmp_path: Path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a model\n")
    with pytest.raises(BundleError, match="not an ONNX file"):
        write_decision(path, {"promoted": True})
    assert path.read_bytes() == b"not a model\n"


def test_what_was_measured_is_added_and_what_it_learned_from_stays(tmp_path: Path):
    path = write_colour_bundle(tmp_path / "model.onnx", samples=["a" * 64, "b" * 64])
    model = onnx.load(path)
    add_samples(model, ["a" * 64], CORRECTED)
    write_bundle(path, model, read_metadata(path))
    before = read_metadata(path)
    measured = Measured(8, Interval(58.0, 49.0, 66.0), Interval(61.0, 52.0, 68.5))
    write_measured(path, measured)
    assert read_metadata(path) == before.model_copy(update={"measured": measured})
    assert str(read_metadata(path).measured) == (
        "measured on 8 corrected photos: mIoU 61 (52 to 68) with tags given, 58 (49 to 66) without"
    )
    assert read_samples(path) == {"a" * 16, "b" * 16}
    assert read_samples(path, CORRECTED) == {"a" * 16}
