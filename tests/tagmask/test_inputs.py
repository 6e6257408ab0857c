"""Paths: a URL never names a file or folder of this machine, wherever it comes in."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

import tagmask
from tagmask.errors import ConfigError, TagmaskError
from tagmask.inputs import absolute_location, local_path, location, photo_bytes
from tagmask.store import Store

Command = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("url", ["s3://bucket/photos", "gs://b/x.csv", "http://host/a", "file:///a", "hdfs://n:1/a"])
def test_a_url_is_no_path(url: str):
    for given in (url, Path(url)):
        with pytest.raises(ConfigError, match="URLs are not supported; mount or copy it"):
            local_path(given)


@pytest.mark.parametrize("path", ["photos", "./s3:/x", "/data/s3:/x", "a:b", "C:/photos", "12:30/x", "s3"])
def test_paths_stay_what_they_are(path: str):
    assert local_path(path) == Path(path)


@pytest.mark.parametrize("url", ["s3://bucket", "s3://bucket/a/b", "gs://b/x", "az://container/x"])
def test_a_location_is_a_path_or_a_url_of_object_storage(url: str):
    assert location(url) == absolute_location(url) == url
    assert (location("store"), absolute_location("store")) == (Path("store"), Path("store").absolute())


@pytest.mark.parametrize(
    "url", ["http://host/a", "file:///a", "s3:/bucket", "s3://", "s3://key:secret@bucket/x", "s3://b?x"]
)
def test_other_urls_are_no_location(url: str):
    with pytest.raises(
        ConfigError, match=f"{re.escape(url)}: not supported; give a path on this machine, or a URL such"
    ):
        Store(url)


@pytest.mark.parametrize(
    "use",
    [
        lambda url: tagmask.Segmenter.load(url),
        lambda url: photo_bytes(url),
        lambda url: tagmask.train("photos", url),
        lambda url: tagmask.train("photos", "run", config=url),
        lambda url: tagmask.evaluate(url, "photos"),
    ],
)
def test_the_python_api_refuses_urls(use: Callable[[str], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TagmaskError, match=r"s3:/+bucket/x: URLs are not supported"):
        use("s3://bucket/x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "line",
    [
        "train photos --out s3://bucket/x",
        "train photos --out=s3://bucket/x",
        "train photos --out run --tensorboard s3://bucket/x",
        "segment photo.jpg --out s3://bucket/x",
        "data audit photos --model model.onnx --out s3://bucket/x",
        "label s3://bucket/x --model model.onnx --out masks",
        "flow train photos --workspace s3://bucket/x",
        "flow schedule photos --cron '0 3 * * *' --workspace s3://bucket/x",
        "serve s3://bucket/x",
    ],
)
def test_the_command_line_refuses_urls(line: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    status, _, error = command(*shlex.split(line))
    assert status == 2
    assert "s3://bucket/x: URLs are not supported" in error
    assert list(tmp_path.iterdir()) == []


def test_urls_of_data_come_before_options(command: Command):
    status, _, error = command("train", "--resume", "s3://bucket/x", "--out", "run")
    assert status == 2
    assert "s3://bucket/x: URLs are not supported after --resume; name those of data before the options" in error


@pytest.mark.parametrize(
    ("variable", "line"),
    [("TAGMASK_WORKSPACE", "flow schedule . --cron '0 3 * * *'")],
)
def test_the_environment_is_no_way_around(
    variable: str, line: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, "s3://bucket/x")
    status, _, error = command(*shlex.split(line))
    assert (status, "URLs are not supported" in error) == (2, True)
    assert list(tmp_path.iterdir()) == []
