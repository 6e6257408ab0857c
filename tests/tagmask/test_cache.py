import os
from hashlib import sha256
from pathlib import Path

import pytest

from tagmask.cache import Cache
from tagmask.errors import ConfigError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TAGMASK_CACHE", str(tmp_path))
    return tmp_path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "models").iterdir())


def test_a_copy_is_kept_for_this_user_alone(folder: Path):
    name = sha256(b"content").hexdigest()
    assert Cache("models").get(name) is None
    path = Cache("models").add(name, b"content")
    assert (Cache("models").get(name), path.read_bytes()) == (path, b"content")
    assert (folder / "models").stat().st_mode & 0o077 == 0


def test_a_damaged_copy_is_none():
    name = sha256(b"content").hexdigest()
    path = Cache("models").add(name, b"content")
    assert Cache("models").get(name) == path
    path.write_bytes(b"Content")
    assert Cache("models").get(name) is None
    Cache("models").add(name, b"content")
    assert Cache("models").get(name) == path


def test_use_does_not_change_a_copy():
    name = sha256(b"content").hexdigest()
    path = Cache("models").add(name, b"content")
    os.utime(path, (1, 1))
    Cache("models").get(name)
    assert (path.stat().st_mtime, path.stat().st_atime > 1) == (1, True)


def test_what_was_not_used_for_longest_is_removed(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TAGMASK_CACHE_BYTES", "30")
    cache = Cache("models")
    for age, name in enumerate("abc"):
        os.utime(cache.add(name, b"x" * 10), (age, age))
    cache.get("a")
    cache.add("d", b"x" * 10)
    assert names(folder) == ["a", "c", "d"]
    cache.add("e", b"x" * 100)  # more than the limit by itself
    assert names(folder) == ["e"]


@pytest.mark.parametrize("limit", ["0", "-1", "10GB", "1e9"])
def test_a_limit_is_a_number_of_bytes(limit: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TAGMASK_CACHE_BYTES", limit)
    with pytest.raises(ConfigError, match=f"TAGMASK_CACHE_BYTES={limit}: not a number of bytes above 0"):
        Cache("models")
