import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from tagmask.crf import CrfConfig, Refiner, dense_crf
from tagmask.errors import ConfigError, Internal, TimedOut, Unavailable
from training.config import load_config

DEFAULTS = CrfConfig()
SLOW = CrfConfig(steps=100)
GENEROUS = 30.0  # seconds


def photo_and_probabilities(labels: int, height: int = 24, width: int = 32) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(labels)
    photo = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return photo, random.dirichlet(np.ones(labels), (height, width)).transpose(2, 0, 1).astype(np.float32)


def large() -> tuple[np.ndarray, np.ndarray]:
    """What takes DenseCRF many seconds with 100 steps."""
    return photo_and_probabilities(9, 480, 640)


def children() -> list[psutil.Process]:
    """Workers of this process, and ended processes that it has not waited for."""
    return [
        child
        for child in psutil.Process().children()
        if child.status() == psutil.STATUS_ZOMBIE or any(part.endswith("crf/worker.py") for part in child.cmdline())
    ]


def eventually(condition, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def seconds_used(process: psutil.Process) -> float:
    return sum(process.cpu_times()[:2])


@contextmanager
def at_work(refiner: Refiner) -> Iterator[tuple[psutil.Process, Future[np.ndarray]]]:
    """The one child of `refiner` while it works on what takes it long, and the answer to come."""
    (child,) = children()
    before = seconds_used(child)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(refiner.refine, *large(), SLOW, GENEROUS)
        try:
            assert eventually(lambda: seconds_used(child) > before + 0.1)
            yield child, answer
        finally:
            with suppress(psutil.NoSuchProcess):
                child.kill()


def open_refiner() -> Iterator[Refiner]:
    refiner = Refiner(2)
    yield refiner
    refiner.close()
    assert children() == []


refiner = pytest.fixture(open_refiner)


@pytest.fixture
def warm(refiner: Refiner) -> Refiner:
    """With one child, which has answered once."""
    refiner.refine(*photo_and_probabilities(2), DEFAULTS, GENEROUS)
    return refiner


class TestAnswers:
    refiner = pytest.fixture(scope="class")(staticmethod(open_refiner))

    @pytest.mark.parametrize("labels", [2, 5])
    def test_are_those_of_training(self, refiner, labels):
        photo, probabilities = photo_and_probabilities(labels)
        strengths = {
            "colour_spread": 11.0,
            "space_spread": 23.0,
            "colour_weight": 5.5,
            "smooth_spread": 2.0,
            "smooth_weight": 1.5,
            "steps": 4,
        }
        refined = refiner.refine(photo, probabilities, CrfConfig(**strengths), GENEROUS)
        assert refined.dtype == np.float32
        np.testing.assert_array_equal(refined, dense_crf(photo, probabilities, CrfConfig(**strengths)))
        assert np.abs(refined - probabilities).max() > 0.1

    def test_snap_to_the_edge_of_the_photo_in_any_memory_order(self, refiner):
        truth = np.zeros((40, 60), dtype=np.int64)
        truth[:, 30:] = 1
        photo = np.repeat((truth * 180 + 30)[..., None], 3, axis=2).astype(np.uint8)
        speckled = np.roll(truth, 4, axis=1)
        speckled[::7, ::7] ^= 1
        believed = np.where(speckled == np.arange(2)[:, None, None], 0.6, 0.4).astype(np.float32)
        refined = refiner.refine(np.asfortranarray(photo), np.asfortranarray(believed), DEFAULTS, GENEROUS)
        assert (believed.argmax(axis=0) != truth).mean() > 0.05
        assert (refined.argmax(axis=0) != truth).mean() < 0.01

    def test_come_to_several_threads_at_once(self, refiner):
        def right(labels: int) -> bool:
            photo, probabilities = photo_and_probabilities(labels)
            refined = refiner.refine(photo, probabilities, DEFAULTS, GENEROUS)
            return np.array_equal(refined, dense_crf(photo, probabilities, DEFAULTS))

        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(right, [2, 3, 4, 5] * 6))
        assert len(children()) == 2

    def test_need_a_photo_of_the_same_size(self, refiner):
        photo, probabilities = photo_and_probabilities(2)
        with pytest.raises(ValueError, match="shape"):
            refiner.refine(photo[:, :-1], probabilities, DEFAULTS, GENEROUS)


def test_one_label_needs_no_process(refiner):
    photo, _ = photo_and_probabilities(2)
    refined = refiner.refine(photo, np.full((1, 24, 32), 0.3, dtype=np.float32), DEFAULTS, GENEROUS)
    assert (refined == 1).all()
    assert children() == []


def test_the_child_is_small_and_shares_no_file(refiner):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.set_inheritable(True)  # as a supervisor hands it to its workers
        refiner.refine(*photo_and_probabilities(2), DEFAULTS, GENEROUS)
    (child,) = children()
    assert child.net_connections("tcp") == []
    libraries = [file for file in child.open_files() if ".so" in file.path]  # libffi keeps its own file open
    assert child.num_fds() - len(libraries) == 3
    loaded = {Path(each.path).name.split(".")[0] for each in child.memory_maps()}
    assert not loaded & {"libtorch_cpu", "onnxruntime_pybind11_state", "cv2", "_pydantic_core"}


def test_a_child_that_dies_at_work_is_replaced(warm):
    with at_work(warm) as (child, answer):
        child.kill()
        with pytest.raises(Internal, match="died"):
            answer.result()
    assert children() == []
    warm.refine(*photo_and_probabilities(2), DEFAULTS, GENEROUS)


def test_a_child_that_died_at_rest_is_not_noticed(warm):
    (child,) = children()
    child.kill()
    assert eventually(lambda: gone(child.pid))
    warm.refine(*photo_and_probabilities(2), DEFAULTS, GENEROUS)
    assert len(children()) == 1


@pytest.mark.parametrize("hung", [False, True], ids=["busy", "hung"])
def test_a_child_that_takes_too_long_is_ended(warm, hung):
    (child,) = children()
    if hung:
        child.suspend()  # reads nothing, so even sending does not end
    with pytest.raises(TimedOut) as caught:
        warm.refine(*large(), SLOW, 0.3)
    assert (caught.value.field, caught.value.limit) == ("refine", 0.3)
    assert children() == []
    warm.refine(*photo_and_probabilities(2), DEFAULTS, GENEROUS)


def test_waiting_for_a_process_counts():
    refiner = Refiner(1)
    refiner.refine(*photo_and_probabilities(2), DEFAULTS, GENEROUS)
    with at_work(refiner) as (child, _):
        with pytest.raises(TimedOut):
            refiner.refine(*photo_and_probabilities(2), DEFAULTS, 0.1)
        assert children() == [child]
    refiner.close()


def test_a_child_is_used_again_and_survives_signals_to_the_whole_server(warm):
    (child,) = children()
    for number in (signal.SIGTERM, signal.SIGINT):
        child.send_signal(number)
    time.sleep(0.1)
    warm.refine(*photo_and_probabilities(2), DEFAULTS, GENEROUS)
    assert children() == [child]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, set()) == set()


def test_close_lets_work_in_flight_finish(warm):
    photo, probabilities = photo_and_probabilities(5, 120, 160)
    settings = CrfConfig(steps=20)
    (child,) = children()
    before = seconds_used(child)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(warm.refine, photo, probabilities, settings, GENEROUS)
        assert eventually(lambda: seconds_used(child) > before)
        assert not answer.done()
        warm.close()
        assert answer.result().shape == probabilities.shape
    assert children() == []
    with pytest.raises(Unavailable):
        warm.refine(photo, probabilities, settings, GENEROUS)


def test_no_file_and_no_zombie_is_left_behind():
    refiner = Refiner(2)
    before, threads = psutil.Process().num_fds(), threading.active_count()
    for _ in range(8):
        with pytest.raises(TimedOut):
            refiner.refine(*photo_and_probabilities(2), DEFAULTS, 0.02)  # less than a start takes
    refiner.refine(*photo_and_probabilities(2), DEFAULTS, GENEROUS)
    refiner.close()
    assert (psutil.Process().num_fds(), threading.active_count()) == (before, threads)
    assert children() == []


def test_a_process_that_cannot_start_is_an_internal_error(refiner, monkeypatch, tmp_path):
    before = psutil.Process().num_fds()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "executable", str(tmp_path / "absent"))
        with pytest.raises(Internal):
            refiner.refine(*photo_and_probabilities(2), DEFAULTS, GENEROUS)
    assert psutil.Process().num_fds() == before


def test_children_end_with_a_killed_parent():
    program = (
        "import time, numpy as np, psutil\n"
        "from tagmask.crf.refiner import *\n"
        "refiner = Refiner(1)\n"
        "halves = np.full((2, 8, 8), 0.5, dtype=np.float32)\n"
        "refiner.refine(np.zeros((8, 8, 3), dtype=np.uint8), halves, CrfConfig(), 30)\n"
        "print(psutil.Process().children()[0].pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert not gone(child)
        parent.kill()
    assert eventually(lambda: gone(child))


def test_without_pydensecrf_the_remedy_is_named(refiner, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    old = sys.version_info < (3, 13)
    remedy = "pip install 'tagmask[serve]'" if old else "pip install --no-build-isolation pydensecrf2"
    for refine in (lambda *photo: dense_crf(*photo, DEFAULTS), lambda *photo: refiner.refine(*photo, DEFAULTS, 1)):
        with pytest.raises(ConfigError, match=re.escape(remedy)):
            refine(*photo_and_probabilities(2))
        assert refine(*photo_and_probabilities(1)).min() == 1


def test_settings_of_a_bundle():
    assert CrfConfig.from_bundle(CrfConfig().model_dump()) == DEFAULTS
    training = load_config(overrides={"crf.colour_spread": 5, "crf.steps": 9, "labels.sure_above": 0.5})
    assert CrfConfig.from_bundle(training.model_dump(mode="json")) == CrfConfig(colour_spread=5, steps=9)


@pytest.mark.parametrize(
    "values",
    [None, "strong", {"steps": 0}, {"steps": 10**9}, {"colour_spread": float("nan")}, {"space_spread": 1e-300}, []],
)
def test_invalid_settings_of_a_bundle_are_the_defaults(values):
    assert CrfConfig.from_bundle({"crf": values}) == DEFAULTS
