"""docs/method.md and the README name every stage, in order."""

import re

import pytest

from tests.pages import read
from training.stages import BEFORE_ROUNDS, EACH_ROUND

STAGES = [stage.name for stage in (*BEFORE_ROUNDS, *EACH_ROUND)]


@pytest.mark.parametrize("page", ["docs/method.md", "README.md"])
def test_tables_list_every_stage(page: str):
    listed = re.findall(r"^\| `(\w+)`.*\|$", read(page), re.MULTILINE)
    assert [name for name in listed if name in STAGES] == STAGES


def test_every_stage_has_its_paragraph():
    assert re.findall(r"^\*\*(\w+)\*\* ", read("docs/method.md"), re.MULTILINE) == STAGES
