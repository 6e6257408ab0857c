import errno
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from obstore.store import MemoryStore
from playwright.sync_api import Browser, BrowserContext

from benchmarks.browser import chromium
from tagmask import objects
from tagmask.cli import main as cli
from tests import ceph
from tests.faults import Proxy, faulty
from tests.training.colour_bundle import write_colour_bundle

settings.register_profile("tagmask", deadline=None)  # how long an example takes depends on what else the machine does
settings.load_profile("tagmask")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    try:
        with chromium() as browser:
            yield browser
    except FileNotFoundError as fault:
        pytest.skip(str(fault))


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A profile of its own for pages of the test."""
    context = browser.new_context()
    context.set_default_timeout(20_000)
    yield context
    context.close()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of a real S3 server."""
    if ceph.MISSING:
        pytest.skip(ceph.REASON)
    with tempfile.TemporaryDirectory(prefix="ceph-") as folder, ceph.running_ceph(Path(folder)) as address:
        yield address


@pytest.fixture
def s3(s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy before the S3 server, and the environment for clients, with an empty cache."""
    for name, value in ceph.credentials().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TAGMASK_CACHE", str(tmp_path / "cache"))
    with faulty(s3_server) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A URL of objects in memory, as is each with another end, and an empty cache."""
    stores: dict[str, MemoryStore] = {}
    monkeypatch.setattr(objects, "open_objects", lambda url, patience: stores.setdefault(url, MemoryStore()))
    monkeypatch.setenv("TAGMASK_CACHE", str(tmp_path / "cache"))
    return "s3://bucket/prefix"


@pytest.fixture
def unreadable(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Make a folder one that cannot be listed, for any user, as one without permission is for all but root."""

    def make(folder: Path) -> None:
        scandir = os.scandir

        def refuse(path: Any = ".") -> Any:
            if path == str(folder) or path == folder:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return scandir(path)

        monkeypatch.setattr(os, "scandir", refuse)

    return make


@pytest.fixture(scope="session")
def colour_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose masks are known from a photo's colours."""
    return write_colour_bundle(tmp_path_factory.mktemp("bundle") / "model.onnx")


@pytest.fixture(scope="session")
def decode_rle(label_studio_brush: Any) -> Callable[[list[int]], Any]:
    """Label Studio's own decoder."""
    return label_studio_brush.decode_rle


@pytest.fixture(scope="session")
def encode_rle(label_studio_brush: Any) -> Callable[[Any], list[int]]:
    """Label Studio's own encoder."""
    return label_studio_brush.encode_rle


@pytest.fixture(scope="session")
def label_studio_brush() -> Any:
    """Label Studio's own code for brushes, read by path: its package imports what we do not install."""
    package = importlib.util.find_spec("label_studio_sdk")
    if package is None or package.origin is None:
        pytest.skip("no label-studio-sdk; `make setup` installs it, without what it depends on")
    path = Path(package.origin).parent / "converter" / "brush.py"
    spec = importlib.util.spec_from_file_location("label_studio_brush", path)
    assert spec is not None
    assert spec.loader is not None
    brush = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(brush)
    return brush


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run `tagmask` in this process; returns exit status, standard output and standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tagmask", *map(str, arguments)])
        monkeypatch.setenv("PYTHONSAFEPATH", "1")  # as `main` does, but undone after the test
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), *capsys.readouterr()

    return run
