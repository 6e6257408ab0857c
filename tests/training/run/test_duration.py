import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.run.duration import duration

SECONDS = {"h": 3600, "min": 60, "s": 1}


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0.0 s"), (0.72, "0.7 s"), (9.96, "10 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (3599.7, "1 h 0 min"),
        (4325, "1 h 12 min"), (36_000_000, "10,000 h 0 min"),
    ],
)  # fmt: skip
def test_times_are_said_in_two_parts(seconds: float, said: str):
    assert duration(seconds) == said


@given(st.floats(0, 1e9))
def test_what_is_said_is_the_time_to_half_its_last_part(seconds: float):
    parts = re.findall(r"([\d.,]+) (h|min|s)", duration(seconds))
    total = sum(float(number.replace(",", "")) * SECONDS[unit] for number, unit in parts)
    smallest = 0.1 if seconds < 9.95 else SECONDS[parts[-1][1]]
    assert abs(total - seconds) <= smallest / 2 + 1e-6
    assert all(0 <= float(number) < 60 for number, unit in parts[1:])
