"""The store in object storage, on a real S3 server."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import obstore
import pytest

from tagmask.errors import BundleError, ConfigError
from tagmask.objects import PATIENCE, open_objects
from tagmask.store import Store, StoreUnreachable, UnknownVersion
from tests import ceph
from tests.faults import Proxy
from tests.training.colour_bundle import write_colour_bundle

PREFIXES = map(str, count())


@pytest.fixture
def store(s3: Proxy) -> Store:
    return Store(f"s3://{ceph.BUCKET}/{next(PREFIXES)}/store")


def version(letter: str) -> str:
    return letter * 12


def bundle(folder: Path, letter: str, **changed: object) -> Path:
    metadata = {"created": "2026-01-01T00:00:00+00:00", "weights_digest": letter * 64, **changed}
    return write_colour_bundle(folder / f"{letter}.onnx", **metadata)


def publish(store: Store, folder: Path, letters: str) -> None:
    for letter in letters:
        store.publish(bundle(folder, letter))


def chain(store: Store) -> str:
    champion = store.champion()
    return "" if champion is None else "".join(name[0] for name in (champion.version, *champion.before))


def summary(store: Store) -> str:
    return " ".join(event.event[0] + event.version[0] for event in store.history())


def test_a_bundle_is_published_promoted_and_rolled_back(store: Store, tmp_path: Path):
    assert (store.versions(), store.champion(), summary(store)) == ((), None, "")
    publish(store, tmp_path, "ab")
    publish(store, tmp_path, "a")  # is there
    assert store.versions() == (version("a"), version("b"))
    assert store.path(version("a")).read_bytes() == (tmp_path / "a.onnx").read_bytes()
    for letter in "aab":
        store.promote(version(letter))
    assert chain(store) == "ba"
    assert store.rollback().version == version("a")
    store.record_decision(version("c"), promoted=False, reasons=["worse"], figures={"miou": 1.0})
    assert summary(store) == "pa pb pa pb ra dc"
    other = Store(store.root)
    assert (other.versions(), other.champion(), list(other.history())) == (
        store.versions(),
        store.champion(),
        list(store.history()),
    )


def test_what_is_not_there_is_told(store: Store, tmp_path: Path):
    with pytest.raises(UnknownVersion, match=f"'aaaaaaaaaaaa' is not in the store '{store.root}'"):
        store.promote(version("a"))
    publish(store, tmp_path, "a")
    with pytest.raises(BundleError, match=r"champion\.json: no former champion"):
        store.rollback()
    with pytest.raises(BundleError, match="is in the store with different bytes"):
        store.publish(bundle(tmp_path, "a", photos=99))
    assert store.is_intact(version("a"))


def test_only_the_newest_are_kept_and_what_may_be_served(store: Store, tmp_path: Path):
    publish(store, tmp_path, "abc")
    store.promote(version("a"))
    assert store.retain(1) == (version("b"),)
    assert store.versions() == (version("a"), version("c"))
    names = {each["path"] for objects in obstore.list(open_objects(str(store.root), PATIENCE)) for each in objects}
    assert not [name for name in names if version("b") in name]
    assert (store.has(version("a")), store.has(version("b"))) == (True, False)


def test_a_damaged_or_lost_model_is_not_promoted_and_put_right_by_publishing_again(store: Store, tmp_path: Path):
    publish(store, tmp_path, "a")
    record, objects = store.record(version("a")), open_objects(str(store.root), PATIENCE)
    name = f"bundles/{record.version}/{record.sha256}.onnx"
    obstore.put(objects, name, b"x" * record.bytes)
    with pytest.raises(BundleError, match=f"{store.root}/{name}: SHA-256 is [0-9a-f]{{64}}, expected {record.sha256}"):
        store.promote(record.version)
    obstore.delete(objects, name)
    assert not store.has(record.version)
    with pytest.raises(BundleError, match="does not exist; add the bundle again"):
        store.promote(record.version)
    publish(store, tmp_path, "a")
    assert store.promote(record.version).version == record.version


def test_a_damaged_copy_on_this_machine_is_fetched_again(store: Store, tmp_path: Path):
    publish(store, tmp_path, "a")
    content = store.path(version("a")).read_bytes()
    store.path(version("a")).write_bytes(content[:-1000] + bytes(1000))
    assert store.promote(version("a")).version == version("a")
    assert store.path(version("a")).read_bytes() == content


def test_an_unchanged_pointer_is_not_sent_again(store: Store, s3: Proxy, tmp_path: Path):
    publish(store, tmp_path, "a")
    store.promote(version("a"))
    other = Store(store.root)
    assert other.champion() == store.champion()
    s3.seen.clear()
    assert other.champion() == store.champion()
    assert s3.seen == [("GET", 304)] * 2


def test_a_promotion_whose_answer_is_lost_is_repeated_on_top_of_another(store: Store, s3: Proxy, tmp_path: Path):
    publish(store, tmp_path, "ab")

    def promote_first(method: str, path: str) -> None:
        if method == "GET" and path.endswith("champion.json") and not s3.faults:
            s3.before = lambda method, path: None
            Store(store.root).promote(version("b"))

    s3.faults.append(("PUT", "cut after"))
    s3.before = promote_first
    store.promote(version("a"))
    assert chain(store) == "aba"


@pytest.mark.parametrize("fault", ["503", "cut", "cut after", "slow"])
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_fault_that_passes_changes_nothing(store: Store, s3: Proxy, tmp_path: Path, method: str, fault: str):
    publish(store, tmp_path, "abc")
    store.promote(version("a"))
    store.promote(version("b"))
    s3.faults += [(method, fault)] * 2  # type: ignore[list-item]
    store.promote(version("c"))
    assert chain(store) == "cba"
    s3.faults += [(method, fault)] * 2  # type: ignore[list-item]
    store.rollback()
    publish(store, tmp_path, "d")
    assert s3.faults == []
    assert chain(store) == "ba"
    assert summary(store) == "pa pb pc pa pb pc rb pd"


def test_a_faster_writer_is_seen(store: Store, s3: Proxy, tmp_path: Path):
    publish(store, tmp_path, "abc")
    store.promote(version("a"))

    def promote_first(method: str, path: str) -> None:
        if method == "PUT" and path.endswith("champion.json"):
            s3.before = lambda method, path: None
            Store(store.root).promote(version("b"))

    s3.before = promote_first
    store.promote(version("c"))
    assert chain(store) == "cba"
    s3.before = promote_first
    with pytest.raises(BundleError, match=r"the champion is b+, not c+ as expected"):
        store.promote(version("a"), expected=version("c"))
    assert chain(store) == "bcba"


def test_a_lost_answer_and_a_faster_writer_add_one_line(store: Store, s3: Proxy):
    def decide_first(method: str, path: str) -> None:
        if method == "GET" and path.endswith("history.jsonl") and ("PUT", "cut after") not in s3.faults:
            s3.before = lambda method, path: None
            Store(store.root).record_decision("b", promoted=True, reasons=[], figures={})

    s3.faults.append(("PUT", "cut after"))
    s3.before = decide_first
    store.record_decision("a", promoted=True, reasons=[], figures={})
    assert summary(store) == "da db"


def test_another_promotion_is_not_rolled_back(store: Store, s3: Proxy, tmp_path: Path):
    publish(store, tmp_path, "abc")
    for letter in "ab":
        store.promote(version(letter))

    def promote_first(method: str, path: str) -> None:
        if method == "PUT" and path.endswith("champion.json"):
            s3.before = lambda method, path: None
            Store(store.root).promote(version("c"))

    s3.before = promote_first
    with pytest.raises(BundleError, match=r"the champion is c+, not b+ as expected"):
        store.rollback()
    assert chain(store) == "cba"


def test_of_two_contents_of_one_version_one_is_published(store: Store, s3: Proxy, tmp_path: Path):
    (tmp_path / "other").mkdir()
    faster = bundle(tmp_path / "other", "a", photos=99)

    def publish_first(method: str, path: str) -> None:
        if method == "PUT" and path.endswith("record.json"):
            s3.before = lambda method, path: None
            Store(store.root).publish(faster)

    s3.before = publish_first
    with pytest.raises(BundleError, match="is in the store with different bytes"):
        store.publish(bundle(tmp_path, "a"))
    assert store.path(version("a")).read_bytes() == faster.read_bytes()
    assert store.is_intact(version("a"))


def test_a_version_removed_while_it_is_promoted_is_not_champion(store: Store, s3: Proxy, tmp_path: Path):
    publish(store, tmp_path, "abc")
    store.promote(version("b"))

    def remove_first(method: str, path: str) -> None:
        if method == "PUT" and path.endswith("champion.json"):
            s3.before = lambda method, path: None
            assert Store(store.root).retain(1) == (version("a"),)

    s3.before = remove_first
    with pytest.raises(UnknownVersion):
        store.promote(version("a"))
    assert chain(store) == "b"


def test_a_version_promoted_while_it_is_removed_stays(store: Store, s3: Proxy, tmp_path: Path):
    publish(store, tmp_path, "abc")

    def promote_first(method: str, path: str) -> None:
        if method in ("DELETE", "POST"):
            s3.before = lambda method, path: None
            Store(store.root).promote(version("a"))

    s3.before = promote_first
    assert store.retain(1) == (version("b"),)
    assert (chain(store), store.is_intact(version("a"))) == ("a", True)


def test_no_promotion_is_lost_between_processes(store: Store, tmp_path: Path):
    publish(store, tmp_path, "abcdef")
    script = (
        "import sys; from tagmask.store import Store; store = Store(sys.argv[1]); "
        "[store.promote(version) for _ in range(4) for version in sys.argv[2:]]"
    )
    root = Path(__file__).parents[2]
    started = [
        subprocess.Popen([sys.executable, "-c", script, str(store.root), *map(version, pair)], cwd=root)
        for pair in ("ab", "cd", "ef")
    ]
    assert [process.wait() for process in started] == [0, 0, 0]
    events = [event.version[0] for event in store.history() if event.event == "promoted"]
    assert len(events) == len(chain(store))
    assert sorted(events) == sorted(chain(store))


def test_no_line_is_lost_between_threads(store: Store):
    def decide(name: str) -> None:
        for _ in range(10):
            Store(store.root).record_decision(name, promoted=True, reasons=["x" * 500], figures={})

    with ThreadPoolExecutor() as pool:
        list(pool.map(decide, "ab"))
    assert sorted(summary(store).split()) == ["da"] * 10 + ["db"] * 10


def test_what_is_no_bucket_and_wrong_keys_are_told(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    with pytest.raises(
        StoreUnreachable, match=r"s3://none/x/bundles.*: object storage failed \(.*NoSuchBucket\); check"
    ):
        Store("s3://none/x").publish(bundle(tmp_path, "a"))
    with pytest.raises(StoreUnreachable, match="NoSuchBucket"):
        Store("s3://none/x").champion()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(
        StoreUnreachable, match=r"champion.json: object storage failed \(.*SignatureDoesNotMatch\); check"
    ):
        Store(store.root).champion()


def test_what_does_not_answer_is_not_taken_for_missing(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    publish(store, tmp_path, "ab")
    store.promote(version("a"))
    store.promote(version("b"))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    for ask in (Store.has, Store.is_intact):
        with pytest.raises(StoreUnreachable, match="SignatureDoesNotMatch"):
            ask(Store(store.root), version("a"))


def test_without_the_library_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(
        ConfigError, match=r"s3://bucket/x: obstore.* is not installed; run pip install 'tagmask\[object-"
    ):
        Store("s3://bucket/x")
