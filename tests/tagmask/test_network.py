"""How many threads compute a photo, and when memory is returned."""

import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tagmask.network
from tagmask.bundle import read_bundle
from tagmask.errors import BundleError
from tagmask.network import Network
from tagmask.segmenter import Segmenter, SegmentOptions

PHOTO = np.full((60, 80, 3), (200, 40, 40), dtype=np.uint8)


class Watched:
    """A session that notes its number of threads in `ran` whenever it runs, negative if it then returns memory."""

    def __init__(self, opened: Any, ran: list[int]) -> None:
        self._session, self._ran = opened, ran

    def get_providers(self) -> list[str]:
        return self._session.get_providers()

    def run(self, *arguments: Any) -> list[np.ndarray]:
        threads = self._session.get_session_options().intra_op_num_threads
        try:
            shrinks = arguments[2].get_run_config_entry("memory.enable_memory_arena_shrinkage") == "cpu:0"
        except RuntimeError:  # not set
            shrinks = False
        self._ran.append(-threads if shrinks else threads)
        return self._session.run(*arguments)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """Gives this machine a number of cores, and returns the list of the threads of each run."""

    def with_cores(cores: int) -> list[int]:
        ran: list[int] = []
        opener = tagmask.network.open_session
        monkeypatch.setattr(tagmask.network, "open_session", lambda *a, **k: Watched(opener(*a, **k), ran))
        monkeypatch.setattr(tagmask.network, "cores", lambda: cores)
        return ran

    return with_cores


def opened() -> None:
    """Wait for the sessions that are being opened."""
    for thread in threading.enumerate():
        if thread.name.endswith("(_open_further)"):
            thread.join(timeout=60)


def test_photos_in_work_share_the_cores(colour_bundle: Path, machine: Callable[[int], list[int]]):
    ran = machine(5)
    network = Network(read_bundle(colour_bundle), "cpu", 4, 60)
    alone = network.infer(PHOTO)
    with ExitStack() as photos:
        for threads in (4, 2, 1, 1, 1, 1):
            photos.enter_context(network.photo_in_work())
            network.infer(PHOTO)  # which may have the session opened
            opened()
            ran.clear()
            output = network.infer(PHOTO)
            assert ran == [threads]
            np.testing.assert_array_equal(output.probabilities, alone.probabilities)
    ran.clear()
    network.infer(PHOTO)
    assert ran == [4]


def test_a_lone_photo_has_all_threads_even_if_they_are_more_than_cores(
    colour_bundle: Path, machine: Callable[[int], list[int]]
):
    ran = machine(1)
    network = Network(read_bundle(colour_bundle), "cpu", 3, 60)
    ran.clear()
    with network.photo_in_work():
        network.infer(PHOTO)
    opened()
    assert ran == [3]


def test_a_session_is_opened_when_photos_first_share_the_cores_and_delays_none(
    colour_bundle: Path, monkeypatch: pytest.MonkeyPatch, machine: Callable[[int], list[int]]
):
    ran = machine(2)
    opens: list[int] = []
    may_open = threading.Event()
    opener = tagmask.network.open_session

    def open_late(*arguments: Any, threads: int, **options: Any) -> Any:
        opens.append(threads)
        if threads == 1:
            may_open.wait(60)
        return opener(*arguments, threads=threads, **options)

    monkeypatch.setattr(tagmask.network, "open_session", open_late)
    network = Network(read_bundle(colour_bundle), "cpu", 2, 60)
    with network.photo_in_work():
        network.infer(PHOTO)
        assert opens == [2]
        with network.photo_in_work():
            ran.clear()
            network.infer(PHOTO)
            network.infer(PHOTO)
            assert (ran, opens) == ([-2, -2], [2, 1])
            may_open.set()
            opened()
            network.infer(PHOTO)
            assert (ran, opens) == ([-2, -2, 1], [2, 1])


def test_one_thread_needs_no_further_session(colour_bundle: Path, monkeypatch: pytest.MonkeyPatch):
    network = Network(read_bundle(colour_bundle), "cpu", 1, 60)
    monkeypatch.delattr(tagmask.network, "open_session")
    with ExitStack() as photos:
        for _ in range(3):
            photos.enter_context(network.photo_in_work())
            network.infer(PHOTO)
    assert not network._further


def test_photos_are_served_if_no_further_session_can_be_opened(
    colour_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    machine: Callable[[int], list[int]],
    caplog: pytest.LogCaptureFixture,
):
    ran = machine(2)
    network = Network(read_bundle(colour_bundle), "cpu", 2, 60)

    def fail(*_: Any, **__: Any) -> None:
        raise BundleError("no memory")

    monkeypatch.setattr(tagmask.network, "open_session", fail)
    ran.clear()
    with network.photo_in_work(), network.photo_in_work():
        network.infer(PHOTO)
        opened()
        network.infer(PHOTO)
    assert ran == [-2, -2]
    assert [record.reason for record in caplog.records] == ["no memory"]  # type: ignore[attr-defined]


def test_photos_count_from_their_bytes_to_their_masks(colour_bundle: Path, machine: Callable[[int], list[int]]):
    ran = machine(3)
    segmenter = Segmenter(read_bundle(colour_bundle), device="cpu", threads=2)

    def nest(depth: int) -> None:
        """Segment photos one within the encoding of another."""
        opened()
        segmenter.run(PHOTO, SegmentOptions(), lambda _: nest(depth - 1) if depth else None)

    nest(3)
    for _ in range(2):
        ran.clear()
        nest(3)
        assert ran == [2, 1, 1, 1]


def test_photos_that_fail_count_no_longer(colour_bundle: Path, machine: Callable[[int], list[int]]):
    ran = machine(3)
    segmenter = Segmenter(read_bundle(colour_bundle), device="cpu", threads=2)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            segmenter.run(PHOTO, SegmentOptions(), lambda _: 1 / 0)
    ran.clear()
    segmenter.segment(PHOTO)
    assert ran == [2]


def test_memory_is_returned_once_when_no_photo_came(colour_bundle: Path, machine: Callable[[int], list[int]]):
    ran = machine(1)
    network = Network(read_bundle(colour_bundle), "cpu", 1, 60)
    ran.clear()

    def calls(number: int) -> list[int]:
        for _ in range(number):
            network.return_idle_memory()
        return ran

    assert calls(1) == []
    assert calls(3) == [-1]  # what loading took
    with network.photo_in_work():
        network.infer(PHOTO)
        assert calls(3) == [-1, 1]
    assert calls(1) == [-1, 1]
    assert calls(3) == [-1, 1, -1]
