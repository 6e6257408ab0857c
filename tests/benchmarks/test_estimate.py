import numpy as np
import pytest

from benchmarks.estimate import Fit, Point, fit, truth
from benchmarks.suite import ROWS
from training.evaluation.estimate import Line, Signs


def test_the_fit_finds_the_lines_that_made_the_truth():
    background, classes = Line(constant=5, slope=80), Line(constant=2, slope=60)
    random, points = np.random.default_rng(0), list[Point]()
    for row in list(ROWS) * 10:
        signs = [Signs(float(random.uniform(0.1, 0.9)), 0) for _ in range(4)]
        iou: list[float | None] = [background.iou(signs[0]), *(classes.iou(each) for each in signs[1:])]
        points.append(Point(row, "masks", iou, signs))
    found = fit(points)
    assert found == Fit(background, classes)
    assert found(points[0]) == pytest.approx(truth(points[0]))


def test_a_class_without_a_true_pixel_counts_neither_in_truth_nor_in_estimate():
    point = Point("tiles", "masks", [80.0, None, 40.0], [Signs(0.8, 0), Signs(1, 0), Signs(0.2, 0)])
    line = Line(constant=0, slope=100)
    assert truth(point) == 60
    assert Fit(line, line)(point) == pytest.approx(50)
