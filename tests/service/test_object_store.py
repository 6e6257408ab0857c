"""The service of a store in object storage, on a real S3 server."""

import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from service.models import _stamp
from tagmask.store import Store
from tests import ceph
from tests.faults import Proxy
from tests.service.serving import serving
from tests.tagmask.bundles import FIRST, SECOND
from tests.training.colour_bundle import write_colour_bundle

URL = f"s3://{ceph.BUCKET}/served"


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def model(client: httpx.Client) -> str:
    return str(client.get("/readyz").json().get("model"))


def publish(folder: Path, version: str) -> None:
    Store(URL).publish(write_colour_bundle(folder / "model.onnx", weights_digest=version * 5 + version[:4]))


def test_services_follow_the_pointer_through_faults(s3: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with (
        serving(store=URL, watch_seconds=0.1) as first,
        serving(store=URL, watch_seconds=0.1) as second,
    ):
        assert first.get("/readyz").status_code == 503
        publish(tmp_path, FIRST)
        publish(tmp_path, SECOND)
        Store(URL).promote(FIRST)
        until(lambda: {model(first), model(second)} == {FIRST})
        s3.faults += [("GET", "503"), ("GET", "cut"), ("GET", "cut after"), ("GET", "slow")] * 2
        Store(URL).promote(SECOND)
        until(lambda: {model(first), model(second)} == {SECOND})
        assert s3.faults == []
        s3.target = "127.0.0.1:9"  # nothing listens there
        assert (model(first), first.get("/readyz").status_code) == (SECOND, 200)


def test_a_refused_champion_is_not_tried_again_as_long_as_it_is_the_same(s3: Proxy, tmp_path: Path):
    store = Store(f"{URL}-again")
    version = store.publish(write_colour_bundle(tmp_path / "model.onnx")).version
    seen = _stamp(store, version)
    assert seen is not None
    assert _stamp(store, version) == seen
