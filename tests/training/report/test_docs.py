import re
from functools import reduce
from pathlib import Path

import pytest

from training.config import TrainConfig

TEXT = (Path(__file__).parents[3] / "docs" / "report.md").read_text(encoding="utf-8")
SECTIONS = TrainConfig.model_fields
SETTINGS = sorted({name for name in re.findall(r"`([a-z_.]+)`", TEXT) if name.split(".")[0] in SECTIONS})


def test_settings_are_told_of():
    assert len(SETTINGS) > 15


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_one(name: str):
    reduce(getattr, name.split("."), TrainConfig())
