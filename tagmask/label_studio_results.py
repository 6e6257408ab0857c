"""What the results of an annotation in Label Studio say: their labels, and the pixels of brush, polygons and the like.

https://labelstud.io/guide/task_format: coordinates are percentages of width and height. Regions that someone accepted
as a model had predicted them say nothing, unless that is asked for, as nobody may have looked at them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import cos, isfinite, radians, sin
from typing import Any

import cv2
import numpy as np

from tagmask.areas import Marks, Paint, Size, outlined
from tagmask.classes import class_name, find_class
from tagmask.formats.label_studio import brush_pixels, is_prediction
from tagmask.masks import BACKGROUND
from tagmask.segmentation import Pixels

SHAPES = ("brushlabels", "polygonlabels", "rectanglelabels", "keypointlabels")
"""Types of results that mark pixels; the labels are under the same name in their values."""


def label_names(labels: object) -> Iterator[str]:
    """The names in a list of labels or choices; of a nested choice, which is a path from the outermost on, the last."""
    for label in labels if isinstance(labels, list) else ():
        name = label[-1] if isinstance(label, list) and label else label
        if isinstance(name, str):
            yield name


def read_marks(
    results: Iterable[Mapping[str, Any]], classes: Sequence[str], image: str = "", where: str = "", *, accepted: bool
) -> Marks:
    """What `results` mark in the photo `image`, listed at `where`, with labels as they are spelled in `classes`.

    A class that is painted or outlined is complete, unless it has boxes, keypoints or predictions too. `accepted` is
    whether predictions that were accepted without a change count.
    """
    areas: list[tuple[str, Paint]] = []
    boxes: list[tuple[str, Paint]] = []
    incomplete: set[str] = set()
    size: Size | None = None
    for result in results:
        match result:
            case {"type": str(kind), "value": dict(value)} if kind in SHAPES:
                pass
            case _:
                continue
        for label in label_names(value.get(kind)):
            name = find_class(label, (BACKGROUND, *classes)) or class_name(label)
            if not accepted and is_prediction(result):
                incomplete.add(name)
                continue
            (boxes if kind == "rectanglelabels" else areas).append((name, _paint(kind, value)))
            match result:
                case {"original_height": int(height), "original_width": int(width)}:
                    size = height, width
            if kind == "keypointlabels":
                incomplete.add(name)
    return Marks(image, where, areas, size, boxes, frozenset(incomplete))


def _paint(kind: str, value: Mapping[str, Any]) -> Paint:
    """The pixels of a region of this `kind`."""

    def paint(size: Size) -> Pixels:
        try:
            return _PAINTS[kind](value, size)
        except (KeyError, TypeError, OverflowError) as fault:
            raise ValueError(f"a region of {kind} is malformed") from fault

    return paint


def _brush(value: Mapping[str, Any], size: Size) -> Pixels:
    return brush_pixels(value["rle"], size)


def _polygon(value: Mapping[str, Any], size: Size) -> Pixels:
    return outlined([part / 100 for point in value["points"] for part in point], shares=True)(size)


def _rectangle(value: Mapping[str, Any], size: Size) -> Pixels:
    """A box, which is turned about its upper left corner by degrees, clockwise."""
    scale, turn = np.array(size[::-1]) / 100, radians(value.get("rotation", 0))
    width, height = np.array([value["width"], value["height"]]) * scale
    sides = np.array([[0, 0], [width, 0], [width, height], [0, height]])
    turned = sides @ np.array([[cos(turn), sin(turn)], [-sin(turn), cos(turn)]])
    return outlined((turned + np.array([value["x"], value["y"]]) * scale).ravel().tolist())(size)


def _keypoint(value: Mapping[str, Any], size: Size) -> Pixels:
    """A disc, whose diameter is the keypoint's width, at least one pixel."""
    height, width = size
    parts = value["x"], value["y"], value.get("width", 0)
    if not all(map(isfinite, parts)):
        raise ValueError("a keypoint is malformed")
    x, y, diameter = (min(max(part, -100), 200) for part in parts)  # OpenCV also takes its time for what is outside
    centre = int(x * width / 100), int(y * height / 100)
    pixels: Pixels = np.zeros(size, dtype=np.uint8)
    cv2.circle(pixels, centre, max(0, int(diameter * width / 200)), 1, cv2.FILLED)
    return pixels


_PAINTS = dict(zip(SHAPES, (_brush, _polygon, _rectangle, _keypoint), strict=True))
