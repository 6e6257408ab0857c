"""Store, inbox and data in Azure Blob Storage, on its emulator."""

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest

from tagmask.errors import ConfigError, ObjectStorageError
from tagmask.inbox import Inbox
from tagmask.objects import Objects
from tagmask.store import Store, StoreUnreachable
from tests import azurite
from tests.tagmask.test_annotations import PHOTOS
from tests.tagmask.test_inbox import CAT, SIZE
from tests.tagmask.test_object_store import bundle, chain, publish, summary, version
from training.datasets import load

NUMBERS = count()


@pytest.fixture(scope="module")
def emulator() -> Iterator[dict[str, str]]:
    if azurite.PROGRAM is None:
        pytest.skip(azurite.REASON)
    with tempfile.TemporaryDirectory(prefix="azurite-") as folder, azurite.running_azurite(Path(folder)) as variables:
        yield variables


@pytest.fixture
def url(emulator: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in emulator.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TAGMASK_CACHE", str(tmp_path / "cache"))
    return f"az://{azurite.CONTAINER}/{next(NUMBERS)}"


def test_a_bundle_is_published_promoted_rolled_back_and_removed(url: str, tmp_path: Path):
    store = Store(url)
    publish(store, tmp_path, "abc")
    for letter in "aab":
        store.promote(version(letter))
    assert (chain(store), store.rollback().version) == ("ba", version("a"))
    assert store.retain(1) == (version("b"),)
    assert Store(url).versions() == (version("a"), version("c"))
    assert store.path(version("a")).read_bytes() == bundle(tmp_path, "a").read_bytes()
    assert summary(store)[:8] == "pa pb pc"


def test_no_line_is_lost_between_writers(url: str):
    def decide(name: str) -> None:
        for _ in range(10):
            Store(url).record_decision(name, promoted=True, reasons=[], figures={})

    with ThreadPoolExecutor() as pool:
        list(pool.map(decide, "ab"))
    assert sorted(summary(Store(url)).split()) == ["da"] * 10 + ["db"] * 10


def test_samples_are_added_read_and_forgotten(url: str):
    inbox = Inbox(url, 0)
    for data in PHOTOS[:2]:
        inbox.add(data, ["cat"], "image/jpeg", SIZE, correction=CAT)
    photos = load(url, corrections=url).photos
    assert {photo.path.read_bytes(): photo.correction for photo in photos} == dict.fromkeys(PHOTOS[:2], CAT)
    inbox.forget(photos[0].path.stem)
    assert [photo.id for photo in load(url, format="samples").photos] == [photos[1].id]


def test_what_is_gone_keeps_nothing_from_being_removed(url: str):
    objects = Objects(url)
    objects.write("there", b"x")
    objects.remove("gone", "there")
    assert list(objects.list()) == []


def test_what_is_no_container_and_no_account_are_told(url: str, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(
        StoreUnreachable, match=r"az://none/x/champion.json: object storage failed \(.*ContainerNotFound"
    ):
        Store("az://none/x").champion()
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "d3Jvbmc=")
    with pytest.raises(ObjectStorageError, match=r"az://.*/a: object storage failed \(.*AuthorizationFailure\); check"):
        Objects(url).read("a")
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME")
    with pytest.raises(ConfigError, match=r"az://.*: .*Account must be specified; check the URL, and the variables"):
        Objects(url)
