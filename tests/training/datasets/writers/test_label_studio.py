import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.datasets.writers.masked import CLASSES, expected
from training.datasets.photos import TaggedPhotos
from training.datasets.writers import write
from training.datasets.writers.label_studio import brush_rle

brush = pytest.importorskip("label_studio_sdk.converter.brush")


@pytest.fixture
def tasks(data: TaggedPhotos, tmp_path: Path) -> list[dict[str, Any]]:
    write(data, tmp_path, "label-studio")
    return json.loads((tmp_path / "tasks.json").read_text())


def test_label_studio_decodes_every_mask(data: TaggedPhotos, tasks: list[dict[str, Any]]):
    for task, photo in zip(tasks, data.photos, strict=True):
        mask = expected(photo)
        rebuilt = np.zeros_like(mask)
        for result in task["predictions"][0]["result"]:
            assert (result["original_height"], result["original_width"]) == mask.shape
            (name,) = result["value"]["brushlabels"]
            rgba = brush.decode_rle(result["value"]["rle"]).reshape(*mask.shape, 4)
            where = rgba == 255
            assert (where.all(axis=2) | (rgba == 0).all(axis=2)).all()
            rebuilt[where[..., 3]] = CLASSES.index(name)
        np.testing.assert_array_equal(rebuilt, mask)


def test_the_predictions_fit_the_interface(tasks: list[dict[str, Any]], tmp_path: Path):
    interface = pytest.importorskip("label_studio_sdk.label_interface").LabelInterface(
        (tmp_path / "interface.xml").read_text()
    )
    interface.validate()
    assert interface.get_control("tag").labels == list(CLASSES[1:])
    for task in tasks:
        assert interface.validate_task({"data": task["data"]})
        assert interface.validate_prediction(task["predictions"][0], return_errors=True) == []
    results = [result["id"] for task in tasks for result in task["predictions"][0]["result"]]
    assert len(set(results)) == len(results) > 10


def test_tasks_name_photos_as_local_files(data: TaggedPhotos, tasks: list[dict[str, Any]]):
    for task, photo in zip(tasks, data.photos, strict=True):
        address = urlsplit(task["data"]["image"])
        assert address.path == "/data/local-files/"
        assert data.root / parse_qs(address.query)["d"][0] == photo.path
        assert task["data"]["tags"] == list(photo.tags)


@given(lengths=st.lists(st.integers(1, 5) | st.sampled_from([16383, 16384, 16385, 32768, 40000]), max_size=8))
def test_runs_of_any_length_come_back(lengths: list[int]):
    pixels = np.repeat(np.arange(len(lengths) + 1) % 2, [*lengths, 1]).astype(np.uint8)[None]
    decoded = brush.decode_rle(brush_rle(pixels).tolist())
    np.testing.assert_array_equal(decoded, pixels[0].repeat(4) * 255)
