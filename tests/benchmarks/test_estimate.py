import numpy as np
import pytest

from benchmarks import estimate
from benchmarks.estimate import Point, fit, truth
from benchmarks.suite import ROWS
from training.evaluation.estimate import Signs, Weights


def test_the_fit_finds_the_weights_that_made_the_truth(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(estimate, "RIDGE", 0)
    background, objects = Weights(constant=5, supported=80), Weights(constant=2, supported=60, share=30, whole=-20)
    random, points = np.random.default_rng(0), list[Point]()
    for row in list(ROWS) * 10:
        signs = [Signs(*random.uniform(0.1, 0.9, 3).tolist()) for _ in range(4)]
        iou: list[float | None] = [background.iou(signs[0]), *(objects.iou(each) for each in signs[1:])]
        points.append(Point(row, "masks", iou, signs))
    found = fit(points)
    assert found.weights == (background, objects)
    assert found(points[0]) == pytest.approx(truth(points[0]))


def test_a_class_without_a_true_pixel_counts_neither_in_truth_nor_in_estimate():
    point = Point("tiles", "masks", [80.0, None, 40.0], [Signs(0.8, 0, 0), Signs(1, 0, 0), Signs(0.2, 0, 0)])
    weights = Weights(constant=0, supported=100)
    assert truth(point) == 60
    assert estimate.Fit((weights, weights))(point) == pytest.approx(50)
