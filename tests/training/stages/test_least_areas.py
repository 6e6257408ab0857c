from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from training.stages import least_areas


def test_all_but_few_of_the_photos_that_have_a_class_have_its_least_area():
    """Of the 100 photos that have a cat, on 1% to 100% of their pixels, 5 have less than 5.95%."""
    shares = np.arange(101)
    counts = np.column_stack([100 - shares, shares, np.zeros(101)]).astype(float)
    assert least_areas.measure(counts).tolist() == [pytest.approx(0.0595), 0]


def test_a_few_pixels_are_no_object():
    assert least_areas.measure(np.array([[9991.0, 9.0], [8000.0, 2000.0]])).tolist() == [0.2]


@given(arrays(np.float64, (5, 3), elements=st.integers(0, 1000).map(float)))
def test_areas_are_parts_of_a_photo(counts: np.ndarray):
    areas = least_areas.measure(counts)
    assert ((areas >= 0) & (areas <= 1)).all()


def test_what_is_written_is_read(tmp_path: Path):
    assert least_areas.read(tmp_path, 2) is None
    least_areas.write(tmp_path, 2, np.array([0.25, 1 / 3]))
    read = least_areas.read(tmp_path, 2)
    assert read is not None
    assert read.tolist() == [0.25, 0.333333]
