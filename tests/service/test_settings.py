import re
from pathlib import Path

import pytest

from service.settings import PREFIX, Settings, load_settings
from tagmask.cores import cores
from tagmask.errors import StartError

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(PREFIX + name.upper(), raising=False)
    load_settings.cache_clear()


def test_the_docs_list_every_setting_with_its_default():
    text = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(TAGMASK_[A-Z_]+)` \| (.*?) \| (.*?) \|$", text, re.MULTILINE)
    assert listed == [(PREFIX + name.upper(), *row) for name, row in table().items()]


def table() -> dict[str, tuple[str, str]]:
    """Default and description of each setting, as the docs put them."""
    rows = {}
    for name, field in Settings.model_fields.items():
        value = None if field.default_factory else field.get_default()
        text = getattr(value, "get_secret_value", lambda value=value: value)()
        shown = "" if text in (None, "", False) else f"{text:,}" if type(text) is int else f"{text}"
        rows[name] = (shown, field.description or "")
    return rows


@pytest.mark.parametrize(
    ("name", "value"),
    [("MAX_PIXELS", "0"), ("MAX_SECONDS", "soon"), ("DEVICE", "tpu"), ("WORKERS", "-1"), ("ALLOW_OPEN", "perhaps")],
)
def test_a_bad_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str):
    monkeypatch.setenv(PREFIX + name, value)
    with pytest.raises(StartError, match=f"{PREFIX}{name}={value}: .*; change or unset it"):
        load_settings()


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TAGMASK_MAX_BODY_BYTES", "1000")
    monkeypatch.setenv("TAGMASK_CORS_ORIGINS", "https://a.example, https://b.example/")
    monkeypatch.setenv("TAGMASK_STORE", "")
    settings = load_settings()
    assert settings.max_body_bytes == 1000
    assert settings.origins == ("https://a.example", "https://b.example")
    assert settings.store == Path("store")


def test_keys_do_not_show(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TAGMASK_API_KEYS", "a very secret key")
    assert "secret key" not in repr(load_settings())


@pytest.mark.parametrize(("quota", "most"), [("50000 100000", 1), ("100000 100000", 1), ("max 100000", None)])
def test_a_container_s_limit_counts(tmp_path: Path, quota: str, most: int | None):
    file = tmp_path / "cpu.max"
    file.write_text(quota)
    everything = cores(tmp_path / "absent")
    assert everything >= 1
    assert cores(file) == (most or everything)
