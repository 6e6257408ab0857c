import random
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.training.datasets.masked import CLASSES, MASKS, RING, Pixels, expected, masked
from training.datasets.photos import TaggedPhotos
from training.datasets.writing import write
from training.datasets.yolo import find_outlines


def filled(pixels: Pixels) -> Pixels:
    canvas = np.zeros_like(pixels)
    for outline in find_outlines(pixels):
        cv2.fillPoly(canvas, [outline], (1,))
    return canvas


@given(arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 1)))
def test_filled_outlines_are_the_pixels(pixels: Pixels):
    np.testing.assert_array_equal(filled(pixels), pixels)


@pytest.mark.parametrize("name", MASKS)
def test_filled_outlines_of_every_class_are_the_pixels(name: str):
    for label in range(1, len(CLASSES)):
        pixels = (MASKS[name] == label).astype(np.uint8)
        np.testing.assert_array_equal(filled(pixels), pixels)


def test_a_piece_is_an_outline_and_straight_lines_have_no_points_between():
    assert len(list(find_outlines(RING))) == 2  # one within the other
    (square,) = find_outlines(np.ones((40, 60), dtype=np.uint8))
    assert sorted(square.tolist()) == [[0, 0], [0, 39], [59, 0], [59, 39]]


def parsed(line: str, size: tuple[int, int]) -> tuple[int, np.ndarray]:
    label, *shares = line.split()
    assert len(shares) >= 6
    points = np.array(shares, dtype=np.float64).reshape(-1, 2)
    assert points.min() >= 0
    assert points.max() <= 1
    return int(label), points * size


@pytest.mark.parametrize("to_integers", [np.round, np.trunc], ids=["rounded", "truncated"])
def test_tools_that_round_and_tools_that_truncate_get_the_masks_back(
    data: TaggedPhotos, tmp_path: Path, to_integers: np.ufunc
):
    write(data, tmp_path / "out", "yolo", subset="val")
    for photo in data.photos:
        mask = expected(photo)
        rebuilt = np.zeros_like(mask)
        lines = (tmp_path / "out/labels/val" / f"{photo.id.replace('/', '_')}.txt").read_text().splitlines()
        random.Random(0).shuffle(lines)  # what lies in a hole is not painted over, whatever comes first
        for label, points in (parsed(line, mask.shape[::-1]) for line in lines):
            cv2.fillPoly(rebuilt, [to_integers(points).astype(np.int32)], (label + 1,))
        np.testing.assert_array_equal(rebuilt, mask)


def test_supervision_gets_the_masks_back(data: TaggedPhotos, tmp_path: Path):
    supervision = pytest.importorskip("supervision")
    out = tmp_path / "out"
    write(data, out, "yolo")
    loaded = supervision.DetectionDataset.from_yolo(
        images_directory_path=str(out / "images/train"),
        annotations_directory_path=str(out / "labels/train"),
        data_yaml_path=str(out / "data.yaml"),
    )
    assert loaded.classes == list(CLASSES[1:])
    assert len(loaded.annotations) == len(data.photos)
    for photo in data.photos:
        detections = loaded.annotations[str(out / "images/train" / f"{photo.id.replace('/', '_')}.jpg")]
        rebuilt = np.zeros_like(expected(photo))
        for label, where in zip(detections.class_id, detections.mask if len(detections) else (), strict=True):
            rebuilt[where] = label + 1
        np.testing.assert_array_equal(rebuilt, expected(photo))


def test_data_yaml_names_the_subsets_that_are_there(tmp_path: Path):
    data = masked(tmp_path / "data", {"a": MASKS["blobs"]})
    for subset, parts in (
        ("val", {"train": "images/val", "val": "images/val"}),
        ("train", {"train": "images/train", "val": "images/val"}),
        ("test", {"train": "images/train", "val": "images/val", "test": "images/test"}),
    ):
        write(data, tmp_path / "out", "yolo", subset=subset)
        described = yaml.safe_load((tmp_path / "out/data.yaml").read_text())
        assert described == {**parts, "names": dict(enumerate(CLASSES[1:]))}
