"""docs/flows.md: what it says there is, is there."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from flows.notify import Event
from flows.settings import FlowSettings, load_settings
from training.config import load_config

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "flows.md").read_text(encoding="utf-8")


def settings(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Name, default and description of each setting, as the docs put them; `train` has tables of its own."""
    for name, field in model.model_fields.items():
        value = field.get_default(call_default_factory=True)
        if isinstance(value, BaseModel):
            yield from settings(type(value), f"{prefix}{name}.") if name != "train" else ()
        else:
            shown = str(value).lower() if isinstance(value, bool) else f"{value:,}" if isinstance(value, int) else value
            yield f"{prefix}{name}", "" if value in (None, ()) else str(shown), field.description or ""


def test_every_setting_is_listed_with_its_default():
    listed = re.findall(r"^\| `([a-z_.]+)` \| (.*?) \| (.*) \|$", TEXT.partition("\n## Settings")[2], re.MULTILINE)
    assert [(name, default) for name, default, _ in listed] == [row[:2] for row in settings(FlowSettings)]
    for (name, _, said), (*_, description) in zip(listed, settings(FlowSettings), strict=True):
        assert said.startswith(description), name
        assert said, name


def test_deployments_are_there():
    table = TEXT.partition("| deployment | runs in |\n")[2].partition("\n\n")[0]
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    assert re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE) == [each["name"] for each in deployments]
    assert set(re.findall(r"deploy --name (\S+)", TEXT)) <= {each["name"] for each in deployments}


@pytest.mark.parametrize("example", re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL))
def test_examples_of_settings_are_valid(example: str, tmp_path: Path):
    file = tmp_path / "flows.toml"
    file.write_text(example, encoding="utf-8")
    assert load_settings(file) != FlowSettings()


def test_a_preset_lies_below_the_file(tmp_path: Path):
    file = tmp_path / "flows.toml"
    file.write_text("[train]\nlong_side = 99\n[when]\nnew_photos = 7\n", encoding="utf-8")
    settings = load_settings(file, preset="fast")
    assert settings.train == load_config(preset="fast", overrides={"long_side": 99})
    assert settings.when.new_photos == 7


def test_a_notification_has_the_fields_that_are_shown():
    shown = re.search(r"^\{\"flow\".*?\}$", TEXT, re.MULTILINE | re.DOTALL)
    assert shown
    assert re.findall(r"\"(\w+)\":", shown[0]) == list(Event.__dataclass_fields__)
