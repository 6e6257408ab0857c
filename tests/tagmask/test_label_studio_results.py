"""What annotations of Label Studio say about pixels."""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tagmask.corrections import Correction
from tagmask.formats.label_studio import DEFAULT, brush_mask, brush_rle
from tagmask.formats.regions import regions
from tagmask.label_studio_results import read_marks
from tagmask.masks import VOID
from tests.odd_masks import drawn

HEIGHT, WIDTH = SIZE = 4, 8
CLASSES = ("background", "cat", "dog")
MASK = drawn("""
    .11.....
    .11..22.
    .....22.
    ........
""")


def result(kind: str, label: str, **value: Any) -> dict[str, Any]:
    size = {"original_width": WIDTH, "original_height": HEIGHT}
    return {"type": kind, "value": {kind: [label], **value}, **size, "origin": "manual"}


def painted(mask: np.ndarray, label: int, name: str, **others: Any) -> dict[str, Any]:
    return result("brushlabels", name, rle=brush_rle((mask == label).view(np.uint8)).tolist()) | others


def box(label: str, x: float, y: float, width: float, height: float, **more: float) -> dict[str, Any]:
    """A box in pixels."""
    share = {"x": x / WIDTH, "y": y / HEIGHT, "width": width / WIDTH, "height": height / HEIGHT}
    return result("rectanglelabels", label, **{name: 100 * part for name, part in share.items()}, **more)


def outline(label: str, *corners: tuple[float, float]) -> dict[str, Any]:
    points = [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in corners]
    return result("polygonlabels", label, points=points)


def point(label: str, x: float, y: float, width: float = 0) -> dict[str, Any]:
    return result("keypointlabels", label, x=100 * x / WIDTH, y=100 * y / HEIGHT, width=100 * width / WIDTH)


def said(*results: Any, accepted: bool = False) -> Correction:
    return read_marks(results, CLASSES, accepted=accepted).correction(SIZE)


def labels(*results: Any) -> np.ndarray:
    return said(*results).labels(CLASSES[1:])


def test_what_is_painted_is_complete() -> None:
    correction = said(painted(MASK, 1, "Cat"), painted(MASK, 2, "dog"))
    assert_array_equal(correction.labels(CLASSES[1:]), np.where(MASK, MASK, VOID))
    assert correction.complete == ("cat", "dog")
    assert said(painted(MASK, 0, "Background")).complete == ("background",)
    assert_array_equal(labels(painted(MASK, 0, "Background")), np.where(MASK, VOID, 0))


def test_an_outline_is_painted_inside() -> None:
    correction = said(
        outline("cat", (1, 0), (2.9, 0), (2.9, 1.9), (1, 1.9)), outline("a new one", (0, 3), (7, 3), (0, 3))
    )
    assert_array_equal(correction.labels(CLASSES[1:]) == 1, MASK == 1)
    assert correction.complete == ("cat", "a_new_one")


def test_outside_of_boxes_is_background_and_inside_of_them_nothing_is_said() -> None:
    correction = said(box("cat", 1, 0, 1.9, 1.9), painted(MASK, 2, "dog"))
    assert_array_equal(correction.labels(CLASSES[1:]), np.where(MASK == 1, VOID, MASK))
    assert correction.complete == ("dog",)
    turned = labels(box("cat", 4, 0, 1.9, 1.9, rotation=90))
    assert_array_equal(turned == VOID, [[2 <= x <= 4 and y < 2 for x in range(WIDTH)] for y in range(HEIGHT)])


def test_a_keypoint_says_its_disc_alone() -> None:
    correction = said(point("cat", 1.5, 0.5), point("dog", 5.5, 2.5, width=2))
    found = correction.labels(CLASSES[1:])
    assert (found == 1).nonzero() == (0, 1)
    assert_array_equal(np.argwhere(found == 2), [[1, 5], [2, 4], [2, 5], [2, 6], [3, 5]])
    assert ((found == VOID).sum(), correction.complete) == (HEIGHT * WIDTH - 6, ())
    assert (labels(point("cat", 1, 1), box("dog", 4, 0, 2, 2)) == 0).sum() == 0  # the cat may be anywhere


@pytest.mark.parametrize(
    ("place", "pixels"),
    [
        ({"x": 1e12, "y": -1e300}, 0),
        ({"x": 50, "y": 50, "width": 1e9}, HEIGHT * WIDTH),
        ({"x": 50, "y": 50, "width": -1e9}, 1),
    ],
)
def test_keypoints_may_be_of_any_size_anywhere(place: dict[str, float], pixels: int) -> None:
    assert (labels(result("keypointlabels", "cat", **place)) == 1).sum() == pixels


def test_a_prediction_that_was_accepted_as_it_is_says_nothing_unless_asked() -> None:
    (first, second) = (dict(brush_mask(region, DEFAULT, region.name)) for region in regions(MASK, CLASSES, (1, 2)))
    for changed in (
        {**second, "origin": "prediction-changed"},
        {**second, "value": painted(MASK, 2, "dog")["value"] | {"rle": brush_rle((MASK == 1).view(np.uint8)).tolist()}},
    ):
        correction = said({**first, "origin": "prediction"}, changed)
        assert (correction.shown, correction.complete) == (("dog",), ("dog",))
    for accepted in (first, {**first, "origin": "prediction"}):
        assert not read_marks([accepted], CLASSES, accepted=False).areas
        assert said(accepted, accepted=True).shown == ("cat",)
    with_own = said(first, painted(MASK, 2, "cat"), box("dog", 0, 0, 1, 1))
    assert (with_own.complete, set(with_own.labels(["cat"]).flat)) == ((), {1, VOID})


@pytest.mark.parametrize(
    "broken",
    [
        result("brushlabels", "cat", rle=[1, 2, 3]),
        result("brushlabels", "cat", rle=[0, 0, 0, 128, *[255] * 20]),
        result("brushlabels", "cat", rle=[-1]),
        result("brushlabels", "cat", rle="abc"),
        result("brushlabels", "cat"),
        result("brushlabels", "cat", rle=brush_rle(np.zeros((4, 9), dtype=np.uint8)).tolist()),
        result("polygonlabels", "cat", points=[[1, 2], [3, 4]]),
        result("polygonlabels", "cat", points=[1, 2]),
        result("polygonlabels", "cat", points=[["a"]]),
        result("rectanglelabels", "cat", x="1", y=0, width=1, height=1),
        result("rectanglelabels", "cat", x=float("inf"), y=0, width=1, height=1),
        result("keypointlabels", "cat", x=1),
        result("keypointlabels", "cat", x=float("inf"), y=1),
        result("keypointlabels", "cat", x=1, y=1, width="1"),
        {**point("cat", 1, 1), "original_width": 9},
    ],
)
def test_what_is_malformed_is_refused(broken: dict[str, Any]) -> None:
    marks = read_marks([broken], CLASSES, accepted=False)
    with pytest.raises(ValueError, match=r"damaged|malformed|corners|does not have|drawn on|bytes must be"):
        marks.correction(SIZE)


def test_other_results_say_nothing() -> None:
    others = [
        {},
        {"type": "choices", "value": {"choices": ["cat"]}},
        {"type": "brushlabels"},
        {"type": "brushlabels", "value": {"brushlabels": "cat"}},
        {"type": "brushlabels", "value": {"brushlabels": [1]}},
    ]
    marks = read_marks(others, CLASSES, accepted=False)
    assert (marks.areas, marks.boxes) == ([], [])
