"""How many threads compute a photo."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tagmask import session
from tagmask.bundle import read_bundle
from tagmask.segmenter import Segmenter, SegmentOptions
from tagmask.session import Network

PHOTO = np.full((60, 80, 3), (200, 40, 40), dtype=np.uint8)


class Watched:
    """A session that notes its number of threads in `ran` whenever it runs."""

    def __init__(self, opened: Any, ran: list[int]) -> None:
        self._session, self._ran = opened, ran

    def get_providers(self) -> list[str]:
        return self._session.get_providers()

    def run(self, *arguments: Any) -> list[np.ndarray]:
        self._ran.append(self._session.get_session_options().intra_op_num_threads)
        return self._session.run(*arguments)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of threads of each run, on a machine of three cores."""
    ran: list[int] = []
    opener = session.open_session
    monkeypatch.setattr(session, "open_session", lambda *a, **k: Watched(opener(*a, **k), ran))
    monkeypatch.setattr(session, "cores", lambda: 3)
    return ran


def test_one_thread_computes_each_photo_when_there_is_one_for_each_core(colour_bundle: Path, ran: list[int]):
    network = Network(read_bundle(colour_bundle), "cpu", 2, 60)
    alone = network.infer(PHOTO)
    with ExitStack() as photos:
        for threads in (2, 2, 1, 1):
            photos.enter_context(network.photo_in_work())
            ran.clear()
            output = network.infer(PHOTO)
            assert ran == [threads]
            np.testing.assert_array_equal(output.probabilities, alone.probabilities)
    ran.clear()
    network.infer(PHOTO)
    assert ran == [2]


def test_photos_count_from_their_bytes_to_their_masks(colour_bundle: Path, ran: list[int]):
    segmenter = Segmenter(read_bundle(colour_bundle), device="cpu", threads=2)

    def nest(depth: int) -> None:
        """Segment photos one within the encoding of another."""
        segmenter.run(PHOTO, SegmentOptions(), lambda _: nest(depth - 1) if depth else None)

    for _ in range(2):
        ran.clear()
        nest(3)
        assert ran == [2, 2, 1, 1]


def test_photos_that_fail_count_no_longer(colour_bundle: Path, ran: list[int]):
    segmenter = Segmenter(read_bundle(colour_bundle), device="cpu", threads=2)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            segmenter.run(PHOTO, SegmentOptions(), lambda _: 1 / 0)
    ran.clear()
    segmenter.segment(PHOTO)
    assert ran == [2]


def test_one_thread_needs_no_second_session(colour_bundle: Path, ran: list[int]):
    network = Network(read_bundle(colour_bundle), "cpu", 1, 60)
    with ExitStack() as photos:
        for _ in range(3):
            photos.enter_context(network.photo_in_work())
        network.infer(PHOTO)
    assert set(ran) == {1}
    assert network._one_thread is network._session
