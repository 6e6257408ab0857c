"""Corrections in the formats of annotation tools."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tagmask.areas import Marks, Paint, boxed_runs, outlined, runs
from tagmask.errors import Fault
from tagmask.masks import VOID
from tests.training.datasets.masked import CLASSES, expected
from training.datasets import load
from training.datasets.photos import Photo, TaggedPhotos
from training.datasets.writing import OutputFormat, write

PaintPhoto = Callable[..., Path]


def flat(photo: Photo) -> str:
    return photo.id.removeprefix("train/").replace("/", "_")


@pytest.mark.parametrize("format", ["coco", "yolo", "cvat", "datumaro", "voc"])
def test_what_a_writer_wrote_comes_back_to_the_pixel(data: TaggedPhotos, tmp_path: Path, format: OutputFormat):
    out = tmp_path / "out"
    write(data, out, format, photos=True)
    if format == "cvat":
        path = out / "annotations.xml"
        path.write_text(path.read_text().replace('source="auto"', 'source="manual"'))
    learned = load(out, corrections=out)
    corrected = {flat(photo): photo for photo in learned.photos if photo.correction}
    shown = {flat(photo): photo for photo in data.photos if photo.tags or format == "voc"}
    assert corrected.keys() == shown.keys()
    for name, photo in corrected.items():
        assert photo.correction is not None
        assert set(photo.correction.complete) == (set() if format == "voc" else set(shown[name].tags))
        said = photo.correction.labels(CLASSES[1:])
        assert_array_equal(np.where(said == VOID, 0, said), expected(shown[name]), name)


def test_what_cvat_has_from_a_model_is_no_correction(data: TaggedPhotos, tmp_path: Path):
    write(data, tmp_path / "out", "cvat", photos=True)
    assert load(tmp_path / "out", corrections=tmp_path / "out").corrected == 0


@pytest.fixture
def zoo(tmp_path: Path, paint: PaintPhoto) -> Path:
    paint(tmp_path / "zoo" / "cat" / "1.png", size=(6, 4))
    return tmp_path / "zoo"


def write_coco(path: Path, *segmentations: object, **image: object) -> Path:
    """A list in which the photo "1.png" has annotations of "cat"."""
    annotations = [{"image_id": 1, "category_id": 7, "segmentation": each} for each in segmentations]
    images = [{"id": 1, "file_name": "1.png", "width": 6, "height": 4} | image]
    document = {"images": images, "annotations": annotations, "categories": [{"id": 7, "name": "Cat"}]}
    path.write_text(json.dumps(document))
    return path


def test_several_outlines_of_an_annotation_are_one_area(zoo: Path, tmp_path: Path):
    source = write_coco(tmp_path / "1.json", [[0, 0, 1.9, 0, 1.9, 1.9, 0, 1.9], [4, 2, 5, 2, 5, 3, 4, 3]])
    photo = load(zoo, corrections=source).photos[0]
    assert photo.correction is not None
    assert_array_equal(
        photo.correction.labels(["cat"]) == 1, [[1, 1, 0, 0, 0, 0]] * 2 + [[0, 0, 0, 0, 1, 1]] * 2
    )  # the pixels in which corners lie belong to the area


@pytest.mark.parametrize(
    "segmentation",
    [
        [[0, 0, 1, 1]],
        [[0, 0, 1, 1, 2]],
        [[0, 0, 1, float("nan"), 2, 2]],
        [[0, 0, 1, "a", 2, 2]],
        {"counts": [5, 5], "size": [4, 6]},
        {"counts": [10**400], "size": [4, 6]},
        {"counts": ["a"], "size": [4, 6]},
        {"counts": "~~", "size": [4, 6]},
    ],
)
def test_an_area_that_is_malformed_is_told_with_its_place(zoo: Path, tmp_path: Path, segmentation: object):
    data = load(zoo, corrections=write_coco(tmp_path / "1.json", segmentation))
    assert data.corrected == 0
    assert [(fault.where, fault.why[:10]) for fault in data.faults] == [("1.json: images[0]", "not used: ")]


@pytest.mark.parametrize("size", [{"width": 10**6, "height": 10**6}, {"width": 0}])
def test_a_photo_of_no_possible_size_is_told(zoo: Path, tmp_path: Path, size: dict[str, int]):
    data = load(zoo, corrections=write_coco(tmp_path / "1.json", [[0, 0, 5, 0, 5, 5]], **size))
    assert data.corrected == 0
    assert "pixels" in data.faults[0].why


@pytest.mark.parametrize("segmentation", [None, [], "a", {"size": [4, 6]}, [3, 4, 5]])
def test_an_annotation_without_an_outline_is_told(zoo: Path, tmp_path: Path, segmentation: object):
    data = load(zoo, corrections=write_coco(tmp_path / "1.json", segmentation))
    why = "no outline of a known category; ignored, add it or remove the annotation"
    assert data.faults == (Fault("1.json: annotations[0]", why),)


def test_corners_far_outside_the_photo_are_at_its_rim():
    for corners in ([-1e300, -1e300, 1e300, -1e300, 1e300, 1e300, -1e300, 1e300], [-3, -3, 9, -3, 9, 9, -3, 9]):
        assert outlined(corners)((4, 6)).all()


@pytest.mark.parametrize(("left", "top", "size"), [(-1, 0, (1, 2)), (0, 4, (1, 2)), (5, 0, (1, 2)), (0, 0, (0, 2))])
def test_a_box_outside_the_photo_is_refused(left: int, top: int, size: tuple[int, int]):
    with pytest.raises(ValueError, match="a mask is not inside its photo"):
        boxed_runs([0, 2], left, top, size)((4, 6))


def test_where_areas_overlap_the_last_one_counts():
    paints: list[tuple[str, Paint]] = [("cat", runs([0, 4])), ("dog", runs([2, 2])), ("cat", runs([3, 1]))]
    correction = Marks("1", "", paints).correction((2, 2))
    assert_array_equal(correction.labels(["cat", "dog"]), [[1, 2], [1, 1]])
    assert correction.complete == ("cat", "dog")


def test_outside_of_boxes_is_background_unless_a_class_is_incomplete():
    areas: list[tuple[str, Paint]] = [("cat", runs([0, 1, 3]))]
    boxes: list[tuple[str, Paint]] = [("dog", runs([2, 1, 1]))]
    correction = Marks("1", "", areas, boxes=boxes).correction((2, 2))
    assert_array_equal(correction.labels(["cat", "dog"]), [[1, VOID], [0, 0]])
    assert correction.complete == ("cat",)
    correction = Marks("1", "", areas, boxes=boxes, incomplete=frozenset({"cat"})).correction((2, 2))
    assert_array_equal(correction.labels(["cat", "dog"]), [[1, VOID], [VOID, VOID]])
    assert correction.complete == ()


def test_areas_of_a_photo_of_another_size_are_refused():
    with pytest.raises(ValueError, match="drawn on 3x2 pixels, and the photo has 2x2"):
        Marks("1", "", [("cat", runs([0, 4]))], size=(2, 3)).correction((2, 2))
