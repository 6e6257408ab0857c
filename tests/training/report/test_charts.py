import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from training.report import charts
from training.report.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Curve, draw_chart

VALUES = st.floats(-1e6, 1e6) | st.sampled_from([float("nan"), float("inf")])


def points(drawing: Markup) -> list[tuple[float, float]]:
    root = ElementTree.fromstring(drawing)
    return [(float(dot.attrib["cx"]), float(dot.attrib["cy"])) for dot in root.iter("circle")]


@given(st.lists(st.lists(VALUES, max_size=8), min_size=1, max_size=4), st.none() | st.just(0.0))
def test_every_point_that_is_a_number_is_inside(values: list[list[float]], low: float | None):
    curves = [Curve(f"curve {index}", tuple(enumerate(each))) for index, each in enumerate(values)]
    found = points(draw_chart("any", curves, {0: "start"}, low))
    assert len(found) == sum(abs(value) <= 1e6 for each in values for value in each)
    assert all(LEFT <= x <= WIDTH - RIGHT and TOP - 0.1 <= y <= HEIGHT - BOTTOM + 0.1 for x, y in found)


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6))
def test_levels_are_few_even_and_hold_all(low: float, span: float):
    levels = charts._levels(low, low + span)
    assert 2 <= len(levels) <= 8
    step = levels[1] - levels[0]
    assert step > 0
    assert all(after - before == pytest.approx(step, rel=1e-3) for before, after in pairwise(levels))
    assert levels[0] - step * 1e-6 <= low
    assert low + span <= levels[-1] + step * 1e-6


def test_higher_values_are_higher_and_later_ones_further_right():
    (x1, y1), (x2, y2) = points(draw_chart("loss", [Curve("a", ((1, 10.0), (3, 20.0)))], {1: "1", 3: "3"}))
    assert x1 < x2
    assert y1 > y2  # SVG counts downwards


def test_names_are_text_and_labels_do_not_crowd():
    name = '<script>"&'
    drawing = draw_chart(
        name, [Curve(name, ((0, 1.0), (20, 2.0)))], {number: f"round {number}" for number in range(21)}
    )
    root = ElementTree.fromstring(drawing)
    assert root.attrib["aria-label"] == name
    assert [title.text for title in root.iter("title")] == [f"{name} 1", f"{name} 2"]
    assert len(re.findall(r"round \d", drawing)) <= charts.TICKS
